-- What was asked to be written to a file in the bucket, and what became of it. `key` is unique: a repeat of the request
-- finds the first. A function that lost its lease to another has the wrong attempt, and can finish nothing.
CREATE TABLE export (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    question json NOT NULL,
    format text NOT NULL CHECK (format IN ('csv', 'ndjson', 'parquet')),
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint,
    object_key text,
    object_version text,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);

-- The figures that were kept as a report, for the next ones to say what changed since.
CREATE TABLE report (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    figures json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
