-- The bit that stands for a source in every set of sources. A bit is never given to another name.
CREATE TABLE source (
    bit smallint PRIMARY KEY CHECK (bit BETWEEN 0 AND 62),
    name text NOT NULL UNIQUE
);

-- One batch of records accepted whole: an API body, or one version of an object in the bucket. `key` says which, is
-- unique, and is written in the transaction of the records or before them: a repeat finds it and writes nothing.
CREATE TABLE upload (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    origin text NOT NULL CHECK (origin IN ('api', 's3')),
    mode text NOT NULL DEFAULT 'add' CHECK (mode IN ('add', 'replace')),
    status text NOT NULL CHECK (status IN ('waiting', 'loading', 'done', 'failed', 'deleted')),
    source text,
    object_key text,
    object_at timestamptz,
    -- Who loads: a loader that lost its lease to another has the wrong attempt, and can finish nothing.
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    rows bigint NOT NULL DEFAULT 0,
    accepted bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    customers_added bigint,
    customers_removed bigint,
    customers_unchanged bigint,
    reason text,
    rejected_key text,
    rejected_version text,
    record_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    announced_at timestamptz
);
CREATE INDEX upload_waiting ON upload (object_key) WHERE status = 'waiting';

-- When all records were deleted: uploads that were done before then have none left.
CREATE TABLE clearing (
    cleared_at timestamptz PRIMARY KEY,
    records bigint NOT NULL
);

-- Rows of files that are being loaded wait here, in a table for each attempt.
CREATE SCHEMA staging;

-- The truth. No foreign keys: each would cost a lookup per row in COPY, and only dedup.store writes here.
CREATE TABLE record (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    upload_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    source smallint NOT NULL,
    name text NOT NULL,
    email text NOT NULL
);
CREATE INDEX record_source ON record (source, id);
CREATE INDEX record_customer ON record (customer_id, source);
-- An upload's records lie together: a few bytes per hundred pages find them again.
CREATE INDEX record_upload ON record USING brin (upload_id) WITH (pages_per_range = 16, autosummarize = on);

-- Which sources have a customer, as bits, kept in step with record. `previous` is what `sources` was before the last
-- change: INSERT … ON CONFLICT returns the new row only, and the count of the region that was left must fall.
CREATE TABLE customer_membership (
    customer_id bigint PRIMARY KEY,
    sources bigint NOT NULL,
    previous bigint NOT NULL DEFAULT 0
);
CREATE INDEX customer_membership_region ON customer_membership (sources, customer_id);

-- What each upload changed: the sum over a set of sources says how many customers have exactly these sources, and how
-- many records come from exactly these (a record comes from one). Appended, summed by readers, compacted now and then.
CREATE TABLE region_change (
    sources bigint NOT NULL,
    customers bigint NOT NULL,
    records bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
