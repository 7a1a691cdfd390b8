-- The schema of the database. The schema `staging` holds the rows of files that are being loaded, `matching` the
-- results of matching runs: the application creates and drops the tables in both.
--
-- There are no foreign keys: each would cost a lookup per row in COPY, and only dedup.store writes here.
--
-- The rows of `upload`, `erasure`, `export`, `job` and `match_run` are tasks: asynchronous work that a message in a
-- queue starts. They have these columns in common (`erasure` has no key and no digest):
--   key           identifies the request, hashed with salted(): the Idempotency-Key, or the bucket, key and version of
--                 an object. A repeated request finds the first row by it and writes nothing. Null: not idempotent.
--   digest        hash of the request's content. The same key with other content is refused.
--   attempt       number of the latest attempt. An older attempt has lost its lease and can write nothing.
--   lease_until   end of the lease of the running attempt. After that another attempt may start.
--   enqueued_at   when a message for the task was last sent, received or returned to the queue. Null: the queue refused
--                 it.
--   sends         messages sent since the task last started. The sweeper sends another one when a task waits for too
--                 long, and ends tasks that cannot continue.
--   reason        why the task failed, or why its last attempt was interrupted.
--   created_at, started_at, finished_at   when the task was requested, when its latest attempt started, when it ended.

CREATE SCHEMA staging;
CREATE SCHEMA matching;


-- Sources and records

-- A system that records come from. A set of sources is a bigint with their bits set; a bit is never reused for
-- another name.
CREATE TABLE source (
    bit smallint PRIMARY KEY CHECK (bit BETWEEN 0 AND 62),
    name text NOT NULL UNIQUE
);

-- One customer as one source sent it. The fixed-width columns come first, so that no space is lost to alignment.
CREATE TABLE record (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The customer id: an integer in customer_id, or a text in text_id, which is never the decimal form of an integer of
    -- 64 bits. See docs/adr/0013-text-ids.md.
    customer_id bigint,
    -- The upload that added the record, or the snapshot or upsert that last changed it.
    upload_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When a snapshot or an upsert last changed the record; null if none did.
    updated_at timestamptz,
    -- When the source last changed the record; null if unknown.
    modified_at timestamptz,
    source smallint NOT NULL,
    text_id text COLLATE "C",
    -- As they were sent, without control characters; null if unknown. An address from a file may not be valid.
    name text,
    email text,
    phone text,
    company text,
    address text,
    city text,
    postcode text,
    country text,
    date_of_birth text,
    -- All of them if there is more than one, the first at first; otherwise null.
    emails text[],
    phones text[],
    -- Texts by name, in the order of the file; null if there are none. json keeps this order, jsonb does not.
    attributes json,
    CHECK ((customer_id IS NULL) <> (text_id IS NULL))
);
CREATE INDEX record_source ON record (source, id);
CREATE INDEX record_customer ON record (customer_id, source) WHERE customer_id IS NOT NULL;
CREATE INDEX record_text_customer ON record (text_id, source) WHERE text_id IS NOT NULL;
-- BRIN: the records of an upload are stored together, and the index takes a few bytes per hundred pages.
CREATE INDEX record_upload ON record USING brin (upload_id) WITH (pages_per_range = 16, autosummarize = on);

-- One deletion of all records. Uploads that finished before it count as deleted.
CREATE TABLE clearing (
    cleared_at timestamptz PRIMARY KEY,
    records bigint NOT NULL
);


-- Membership and region counts

-- The sources that have a customer, kept in step with `record` in the same transaction. Customers whose id is a text are
-- in a table of their own, so that they cost those with an integer nothing.
CREATE TABLE customer_membership (
    customer_id bigint PRIMARY KEY,
    sources bigint NOT NULL,
    -- `sources` before the last change: INSERT … ON CONFLICT returns only the new row, and the count of the region
    -- that the customer left must decrease.
    previous bigint NOT NULL DEFAULT 0
);
CREATE INDEX customer_membership_region ON customer_membership (sources, customer_id);
CREATE TABLE text_membership (
    text_id text COLLATE "C" PRIMARY KEY,
    sources bigint NOT NULL,
    previous bigint NOT NULL DEFAULT 0
);
CREATE INDEX text_membership_region ON text_membership (sources, text_id);

-- A change to the counts of one region. The sum of a region's rows is the number of customers that are in exactly these
-- sources; records count towards the region of their one source. Rows are appended, summed by readers, and compacted.
CREATE TABLE region_change (
    sources bigint NOT NULL,
    customers bigint NOT NULL,
    records bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- A deferred change: sources to add to the membership of a customer, written when an upload could not get the merge
-- lock. Readers count it as if it were merged. A customer may have several rows. Nearly always empty.
CREATE TABLE deferred_membership (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint,
    sources bigint NOT NULL,
    text_id text COLLATE "C",
    CHECK ((customer_id IS NULL) <> (text_id IS NULL))
) WITH (
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0
);
CREATE INDEX deferred_membership_customer ON deferred_membership (customer_id, sources) WHERE customer_id IS NOT NULL;
CREATE INDEX deferred_membership_text ON deferred_membership (text_id, sources) WHERE text_id IS NOT NULL;

-- A customer with deferred changes: the region without them (`previous`) and with them (`sources`).
CREATE VIEW deferred_move AS
    SELECT d.customer_id, coalesce(m.sources, 0) AS previous, coalesce(m.sources, 0) | d.sources AS sources
    FROM (
        SELECT customer_id, bit_or(sources) AS sources FROM deferred_membership
        WHERE customer_id IS NOT NULL GROUP BY customer_id
    ) AS d LEFT JOIN customer_membership AS m USING (customer_id);
CREATE VIEW deferred_text_move AS
    SELECT d.text_id, coalesce(m.sources, 0) AS previous, coalesce(m.sources, 0) | d.sources AS sources
    FROM (
        SELECT text_id, bit_or(sources) AS sources FROM deferred_membership WHERE text_id IS NOT NULL GROUP BY text_id
    ) AS d LEFT JOIN text_membership AS m USING (text_id);

-- The memberships with the deferred changes applied.
CREATE VIEW membership_now AS
    SELECT customer_id, sources FROM customer_membership AS m
    WHERE NOT EXISTS (SELECT FROM deferred_membership AS d WHERE d.customer_id = m.customer_id)
    UNION ALL SELECT customer_id, sources FROM deferred_move WHERE sources <> 0;
CREATE VIEW text_membership_now AS
    SELECT text_id, sources FROM text_membership AS m
    WHERE NOT EXISTS (SELECT FROM deferred_membership AS d WHERE d.text_id = m.text_id)
    UNION ALL SELECT text_id, sources FROM deferred_text_move WHERE sources <> 0;

-- region_change with the deferred changes applied.
CREATE VIEW change_now AS
    SELECT sources, customers, records FROM region_change
    UNION ALL SELECT previous, -1, 0 FROM deferred_move WHERE previous <> 0
    UNION ALL SELECT sources, 1, 0 FROM deferred_move WHERE sources <> 0
    UNION ALL SELECT previous, -1, 0 FROM deferred_text_move WHERE previous <> 0
    UNION ALL SELECT sources, 1, 0 FROM deferred_text_move WHERE sources <> 0;


-- Change log

-- 'cleared': all records were deleted. A type, because a CHECK would be a third of the time of appending.
CREATE TYPE record_operation AS ENUM ('inserted', 'updated', 'deleted', 'cleared');

-- One change of records, appended in the transaction that made it. See docs/explanation/change-log.md and
-- docs/adr/0014-change-log-positions.md.
CREATE TABLE record_change (
    -- Entries about the same record have ascending ids, but a transaction may commit after one with higher ids.
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Null until a reader has numbered the entry. Positions have no gaps.
    position bigint,
    -- Number of ids in `records`.
    size bigint NOT NULL,
    -- The sum of the sizes of all entries up to this position, so that a lag is a difference. Null like `position`.
    total bigint,
    at timestamptz NOT NULL DEFAULT now(),
    operation record_operation NOT NULL,
    -- Ids of records: at most 10,000 ranges. Empty if all were deleted.
    records int8multirange NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX record_change_without_position ON record_change (id) WHERE position IS NULL;
CREATE INDEX record_change_cleared ON record_change (position) WHERE operation = 'cleared';
CREATE UNIQUE INDEX record_change_position ON record_change (position) WHERE position IS NOT NULL;

-- One row: the state of the change log. The last entry with a position has `last_position` and `last_total`. The entries
-- up to `trimmed_position` are deleted. They left so many records,
-- with this sum of ids: with the entries that are kept, `verify` knows what the table of records must contain.
CREATE TABLE change_log (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_position bigint NOT NULL DEFAULT 0,
    last_total bigint NOT NULL DEFAULT 0,
    trimmed_position bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    id_sum numeric NOT NULL DEFAULT 0
);
INSERT INTO change_log DEFAULT VALUES;

-- A consumer of the change log. It has consumed the entries up to `position`, and of the next one the ids up to
-- `record_id`: `consumed` of them.
CREATE TABLE change_consumer (
    name text PRIMARY KEY,
    position bigint NOT NULL,
    record_id bigint NOT NULL DEFAULT 0,
    consumed bigint NOT NULL DEFAULT 0,
    registered_at timestamptz NOT NULL DEFAULT now()
);


-- Hashes of personal data

-- One row: the salt of every hash of personal data. Without it, a hash cannot be tested against a list of addresses
-- or ids.
CREATE TABLE hash_salt (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt bytea NOT NULL
);
INSERT INTO hash_salt (salt) SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));

-- SHA-256 of the salt and a text, as hexadecimal digits. Used for keys, which clients choose or which contain the
-- name of a file, and for digests of content.
CREATE FUNCTION salted(value text) RETURNS text LANGUAGE sql STABLE STRICT
    AS $$ SELECT encode(sha256(salt || convert_to(value, 'UTF8')), 'hex') FROM hash_salt $$;


-- Uploads

-- One batch of records: the body of an API request, or one version of an object in the bucket. A task.
CREATE TABLE upload (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    -- Hashed with salted(): a plain digest of a single record would tell who is in it.
    digest text,
    origin text NOT NULL CHECK (origin IN ('api', 's3')),
    -- 'replace': a snapshot.
    mode text NOT NULL DEFAULT 'add' CHECK (mode IN ('add', 'replace', 'upsert')),
    -- 'needs_mapping': the columns of the file are not certain, and the sender has to say which is which. 'previewed',
    -- 'held': the file was compared with the records and not loaded; see upload_preview.
    status text NOT NULL CHECK (status IN (
        'waiting', 'loading', 'needs_mapping', 'previewed', 'held', 'done', 'failed', 'deleting', 'deleted')),
    -- The sender wants to see what the file would do before it is loaded.
    dry_run boolean NOT NULL DEFAULT false,
    -- The sender wants to check the column mapping in any case.
    review boolean NOT NULL DEFAULT false,
    -- Name of the source that all rows come from. Null: each row names its source.
    source text,
    -- Whether the source was guessed from the column names of a file.
    source_guessed boolean NOT NULL DEFAULT false,
    -- How the file is to be read: dedup.file_options. The name of the sheet is kept until the upload has ended.
    sheet text,
    strict boolean NOT NULL DEFAULT false,
    -- The object. `object_at`: when S3 received it. `sender`: principal who put it there.
    object_key text,
    object_version text,
    object_at timestamptz,
    sender text,
    -- Hashes of the email addresses in object_key, since a file may be named after a person.
    key_emails bigint[],
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    enqueued_at timestamptz DEFAULT now(),
    sends int NOT NULL DEFAULT 1,
    -- Rows read so far, those that became records, and those that were rejected.
    rows bigint NOT NULL DEFAULT 0,
    accepted bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    -- What a file did to the customers of its sources, or would do if it is previewed or held; null for uploads from the
    -- API. `customers_new`: of those added, the ones that no source had before.
    customers_added bigint,
    customers_removed bigint,
    customers_unchanged bigint,
    customers_new bigint,
    -- What a file did, or would do, to the records of its sources; null for uploads from the API.
    records_added bigint,
    records_changed bigint,
    records_removed bigint,
    records_unchanged bigint,
    -- SHA-256 of the bytes of a file that is done, hashed with salted(). `same_content`: the latest of the uploads with
    -- the same content and source whose records were in place when this one was loaded.
    content_digest text,
    same_content bigint,
    -- Id of the record, when the upload is a single one from the API.
    record_id bigint,
    -- Also set for an upload that is done: which rows were left out because of a newer snapshot.
    reason text,
    -- The file of rejected rows in the bucket. A key here means that the object still exists; whether it has expired is
    -- derived from finished_at, without asking S3.
    rejected_key text,
    rejected_version text,
    -- Principal who requested the deletion.
    deleted_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    -- When the event that says how the upload ended was sent.
    announced_at timestamptz
);
-- Finds the upload that was expected for an object, also one that was deleted before the object arrived.
CREATE INDEX upload_expected ON upload (object_key) WHERE key IS NULL AND object_key IS NOT NULL;
-- Each file checks at its end for newer snapshots and upserts, which are few among all uploads.
CREATE INDEX upload_snapshot ON upload (object_at) WHERE mode = 'replace' AND status = 'done';
CREATE INDEX upload_upsert ON upload (object_at) WHERE mode = 'upsert' AND status = 'done';
CREATE INDEX upload_content ON upload (content_digest) WHERE content_digest IS NOT NULL;
CREATE INDEX upload_rejected ON upload (finished_at) WHERE rejected_key IS NOT NULL;
CREATE INDEX upload_key_emails ON upload USING gin (key_emails) WHERE key_emails IS NOT NULL;
-- Here and below: only few tasks are open at a time, but all of them are kept.
CREATE INDEX upload_open ON upload (id) WHERE status IN ('waiting', 'loading', 'deleting');
CREATE INDEX upload_undecided ON upload (id) WHERE status IN ('needs_mapping', 'previewed', 'held');


-- Previews

-- What somebody decides about an upload that is previewed or held. The figures are in the row of the upload.
CREATE TABLE upload_preview (
    upload_id bigint PRIMARY KEY,
    -- Of the rows of the file, and of the records of its sources when they were compared: a preview is applied only if
    -- both are the same again. Null if the upload is held.
    fingerprint text,
    -- What was shown to those who decide: the number of customers that the source would lose, and the fields that much
    -- fewer of its records would have.
    customers_removed bigint NOT NULL,
    fields text[] NOT NULL,
    -- Null until somebody decides to load the upload.
    decision text CHECK (decision IN ('apply', 'release')),
    -- Some rows and records, personal data: kept only until somebody decides.
    examples json
);
CREATE INDEX upload_preview_examples ON upload_preview (upload_id) WHERE examples IS NOT NULL;

-- A customer of whom an upsert wrote no record, because the record was the same already, or because the customer was
-- marked as deleted. Files that are older than the upsert and loaded later leave these customers alone. One row for each
-- customer of a source, of the latest upsert; a snapshot of the source deletes them.
CREATE TABLE stated_customer (
    customer_id bigint,
    upload_id bigint NOT NULL,
    -- That of the row of the file.
    modified_at timestamptz,
    source smallint NOT NULL,
    text_id text COLLATE "C",
    CHECK ((customer_id IS NULL) <> (text_id IS NULL))
);
CREATE UNIQUE INDEX stated_customer_customer ON stated_customer (customer_id, source) WHERE customer_id IS NOT NULL;
CREATE UNIQUE INDEX stated_customer_text ON stated_customer (text_id, source) WHERE text_id IS NOT NULL;
CREATE INDEX stated_customer_upload ON stated_customer (upload_id);


-- Column mappings

-- Which column of an uploaded file feeds which field. The members of the mappings are described in
-- dedup.files.mapping.ColumnMapping.
CREATE TABLE upload_mapping (
    upload_id bigint PRIMARY KEY,
    -- What each column was taken for: name, field, confidence and reason. No values.
    columns jsonb NOT NULL,
    -- What was proposed to the sender, and what the sender stated.
    proposal jsonb,
    mapping jsonb,
    -- Some rows of the file, personal data: kept only while the upload needs a mapping.
    sample jsonb
);
CREATE INDEX upload_mapping_sample ON upload_mapping (upload_id) WHERE sample IS NOT NULL;

-- A mapping that is used for each file of a source with the same column names.
CREATE TABLE source_mapping (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    -- Digest of the sorted column names.
    header_key text NOT NULL,
    header jsonb NOT NULL,
    mapping jsonb NOT NULL,
    -- Principal who saved it.
    saved_by text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, header_key)
);


-- Rejected rows and erasures

-- Why rows of an upload were rejected: one field with one reason, which contains no value of a row. A row may have
-- several.
CREATE TABLE upload_error (
    upload_id bigint NOT NULL,
    -- Empty: the row as a whole.
    field text NOT NULL,
    reason text NOT NULL,
    -- Whether the field has no value.
    missing boolean NOT NULL,
    -- The number of rows, and the line of the first.
    rows bigint NOT NULL,
    example_line bigint NOT NULL,
    PRIMARY KEY (upload_id, field, reason)
);

-- What was noticed about accepted rows of an upload. The columns are those of upload_error.
CREATE TABLE upload_warning (
    upload_id bigint NOT NULL,
    -- Identifies the kind of warning for clients.
    code text NOT NULL,
    field text NOT NULL,
    reason text NOT NULL,
    rows bigint NOT NULL,
    example_line bigint NOT NULL,
    PRIMARY KEY (upload_id, code, field)
);

-- The customer of a rejected row that is kept in the bucket, so that an erasure finds it by an index. A row with
-- several email addresses is stored once for each of them. Hashes as in dedup.traces.Hashes.
CREATE TABLE rejected_row (
    upload_id bigint NOT NULL,
    -- Of the uploaded file.
    line bigint NOT NULL,
    -- Hash of the customer id.
    customer bigint,
    -- Hash of one email address.
    email bigint
);
CREATE INDEX rejected_row_customer ON rejected_row (customer) WHERE customer IS NOT NULL;
CREATE INDEX rejected_row_email ON rejected_row (email) WHERE email IS NOT NULL;
CREATE INDEX rejected_row_upload ON rejected_row (upload_id);

-- The erasure of one customer: which rows must be removed from files of rejected rows, and must not be kept from
-- files that were put into the bucket before the erasure. Hashes as in rejected_row; no id and no address. A task.
CREATE TABLE erasure (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL,
    emails bigint[] NOT NULL,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempt int NOT NULL DEFAULT 0,
    -- Attempts that do not count, since the erasure was requested again after them.
    retried int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    enqueued_at timestamptz DEFAULT now(),
    sends int NOT NULL DEFAULT 1,
    -- Rejected rows that were removed.
    rows bigint NOT NULL DEFAULT 0,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX erasure_created ON erasure (created_at);
CREATE INDEX erasure_unfinished ON erasure (customer) WHERE status <> 'done';
CREATE INDEX erasure_open ON erasure (id) WHERE status IN ('waiting', 'running');

-- An object version that an erasure has replaced and must still delete.
CREATE TABLE erasure_leftover (
    erasure_id bigint NOT NULL,
    object_key text NOT NULL,
    object_version text
);
CREATE INDEX erasure_leftover_erasure ON erasure_leftover (erasure_id);


-- Exports

-- The result of one question, written to a file in the bucket. A task.
CREATE TABLE export (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    question json NOT NULL,
    format text NOT NULL CHECK (format IN ('csv', 'ndjson', 'parquet')),
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    enqueued_at timestamptz DEFAULT now(),
    sends int NOT NULL DEFAULT 1,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint,
    object_key text,
    object_version text,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX export_open ON export (id) WHERE status IN ('waiting', 'running');


-- Jobs

-- One Spark job that counts regions over the files below a prefix of the bucket. A task.
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    prefix text NOT NULL,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    enqueued_at timestamptz DEFAULT now(),
    sends int NOT NULL DEFAULT 1,
    -- Id of the job run at EMR Serverless. Null: the job runs in the function that claimed it, under a lease.
    run text,
    -- The job's summary.json, and the keys of the objects that it wrote.
    figures json,
    objects json,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX job_open ON job (id) WHERE status IN ('waiting', 'running');


-- Matching

-- One matching run. Its results are in tables of the schema matching that carry its id in their names. A task.
CREATE TABLE match_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    -- The settings that were requested, and the result of applying them over the defaults.
    asked jsonb NOT NULL DEFAULT '{}',
    settings jsonb,
    -- The run whose settings and model version it takes. Null: it trains a model.
    model_of bigint,
    -- Whether its entities become the active ones when it is done.
    activate boolean NOT NULL DEFAULT true,
    -- Whether the resolver started it by itself, and may start another one in its place.
    automatic boolean NOT NULL DEFAULT false,
    model jsonb,
    engine text,
    attempt int NOT NULL DEFAULT 0,
    -- Attempts that do not count, since they only polled a run at EMR Serverless: the number of the last one.
    polls int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    enqueued_at timestamptz DEFAULT now(),
    sends int NOT NULL DEFAULT 1,
    -- Set while EMR Serverless works on the run: its id there, and the locations and the state of what it reads.
    submitted jsonb,
    stage text,
    -- From 0 to 1.
    progress real NOT NULL DEFAULT 0,
    -- Records, candidate pairs and entities of the run.
    records bigint,
    pairs bigint,
    entities bigint,
    -- Pairs by match weight, and example pairs on both sides of the threshold.
    histogram jsonb,
    near_threshold jsonb,
    -- Whether the run's tables exist. Those of old runs are dropped.
    kept boolean NOT NULL DEFAULT false,
    -- Whether records were removed from its tables alone, so that they are not what follows from the others.
    incomplete boolean NOT NULL DEFAULT false,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX match_run_open ON match_run (id) WHERE status IN ('waiting', 'running');

-- One row: the state of matching.
CREATE TABLE match_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The run whose entities are served, and that the resolver keeps up to date. Null: no run has finished yet.
    active_run bigint,
    -- The process that resolves, and until when it has the lease.
    resolver text,
    resolver_until timestamptz,
    -- The latest batch of the resolver: its number of records, how long it took, and when it ended. Null before the
    -- first.
    resolver_records bigint,
    resolver_seconds real,
    resolver_at timestamptz
);
INSERT INTO match_state DEFAULT VALUES;

-- Ids of entities, across all runs: an id is never reused.
CREATE SEQUENCE entity_id;

-- One decision of clerical review: some records are the same entity, or different ones.
CREATE TABLE decision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record_ids bigint[] NOT NULL,
    -- The customers of the records, kept when the decision is revoked or its records are gone, so that an erasure
    -- finds it. Integers as text.
    customer_ids text[] NOT NULL DEFAULT '{}',
    verdict text NOT NULL CHECK (verdict IN ('same', 'different')),
    note text,
    decided_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the decision last moved to other records.
    followed_at timestamptz,
    revoked_at timestamptz,
    revoked_by text
);

-- One record of a decision that was not revoked, with its customer: if the record is deleted, the decision moves to
-- another one of the customer. `record_id` is the current one.
CREATE TABLE decision_record (
    decision_id bigint NOT NULL,
    record_id bigint NOT NULL,
    source smallint NOT NULL,
    customer_id bigint,
    text_id text COLLATE "C"
);
CREATE INDEX decision_record_decision ON decision_record (decision_id);

-- One pair of records of a decision that was not revoked; record_a < record_b.
CREATE TABLE decision_pair (
    record_a bigint NOT NULL,
    record_b bigint NOT NULL,
    decision_id bigint NOT NULL,
    PRIMARY KEY (record_a, record_b, decision_id)
);
CREATE INDEX decision_pair_b ON decision_pair (record_b);
CREATE INDEX decision_pair_decision ON decision_pair (decision_id);

-- Audit

-- One action of a principal on an upload or a customer, written in the transaction of the action. Holds no names and no
-- addresses, so that erased data is not kept here.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- ARN of the caller, or the subject of their token.
    principal text NOT NULL,
    action text NOT NULL,
    upload_id bigint,
    -- An integer as text.
    customer_id text,
    -- Number of records that the action concerned.
    records bigint
);
CREATE INDEX audit_upload ON audit (upload_id) WHERE upload_id IS NOT NULL;
CREATE INDEX audit_customer ON audit (customer_id) WHERE customer_id IS NOT NULL;


-- Reports

-- One report baseline: the figures that later reports are compared with.
CREATE TABLE report (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    figures json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
