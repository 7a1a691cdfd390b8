-- What was asked of Spark, and what became of it. `key` is unique: a repeat of the request finds the first. `run` is EMR
-- Serverless's name of it; without one it runs where it was claimed, and may be claimed again when the lease is over.
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    prefix text NOT NULL,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    run text,
    figures json,
    objects json,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
