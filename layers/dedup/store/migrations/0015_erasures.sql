-- What every hash of personal data is salted with: without it, a hash can't be tested against a list of addresses or ids.
CREATE TABLE hash_salt (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt bytea NOT NULL
);
INSERT INTO hash_salt (salt) SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));

-- SHA-256 of the salt and a text, in hexadecimal digits. `Hashes` in dedup.store.erasures says the same in Python.
CREATE FUNCTION salted(value text) RETURNS text LANGUAGE sql STABLE STRICT
    AS $$ SELECT encode(sha256(salt || convert_to(value, 'UTF8')), 'hex') FROM hash_salt $$;

-- Keys are given by clients, or contain the name of a file; a digest of one record tells who is in it.
UPDATE upload SET key = salted(key), digest = CASE WHEN key IS NOT NULL THEN salted(digest) END;
UPDATE export SET key = salted(key);
UPDATE job SET key = salted(key);
UPDATE match_run SET key = salted(key);

-- Whom each rejected row is about that an object in the bucket holds, by hashes of its customer id and of its addresses, so that
-- an erasure finds it by an index. `line`: of the row in its file. A row with several addresses is here several times.
CREATE TABLE rejected_row (
    upload_id bigint NOT NULL,
    line bigint NOT NULL,
    customer bigint,
    email bigint
);
CREATE INDEX rejected_row_customer ON rejected_row (customer) WHERE customer IS NOT NULL;
CREATE INDEX rejected_row_email ON rejected_row (email) WHERE email IS NOT NULL;
CREATE INDEX rejected_row_upload ON rejected_row (upload_id);

-- rejected_key says that the object is in the bucket. Whether it expired is not asked of S3: its age says it.
CREATE INDEX upload_rejected ON upload (finished_at) WHERE rejected_key IS NOT NULL;

-- Hashes of the addresses in object_key: a file may be named after a person.
ALTER TABLE upload ADD COLUMN key_emails bigint[];
CREATE INDEX upload_key_emails ON upload USING gin (key_emails) WHERE key_emails IS NOT NULL;

-- Erasures: what is still to be cut out of files of rejected rows, and whose rejected rows a file does not keep that was put into the
-- bucket before. Hashes as in rejected_row; no id and no address. `retried`: attempts that don't count, since somebody asked again.
CREATE TABLE erasure (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL,
    emails bigint[] NOT NULL,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempt int NOT NULL DEFAULT 0,
    retried int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    rows bigint NOT NULL DEFAULT 0,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX erasure_created ON erasure (created_at);
CREATE INDEX erasure_unfinished ON erasure (customer) WHERE status <> 'done';

-- Versions of objects that others have taken the place of, and that are still to be deleted.
CREATE TABLE erasure_leftover (
    erasure_id bigint NOT NULL,
    object_key text NOT NULL,
    object_version text
);
CREATE INDEX erasure_leftover_erasure ON erasure_leftover (erasure_id);
