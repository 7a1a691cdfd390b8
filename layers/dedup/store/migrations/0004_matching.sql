-- One run of the matching. What it found is in tables of its own in the schema matching, while `kept` says so.
CREATE TABLE match_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    -- What was asked for, over the defaults; and what it came to.
    asked jsonb NOT NULL DEFAULT '{}',
    settings jsonb,
    model jsonb,
    engine text,
    -- Who works on it: an attempt that was overtaken has another number, and can put nothing in force.
    attempt int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    stage text,
    progress real NOT NULL DEFAULT 0,
    records bigint,
    pairs bigint,
    entities bigint,
    histogram jsonb,
    near_threshold jsonb,
    reason text,
    kept boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);

-- One row. `active_run`: the run whose entities are asked about, and to which uploads add. `removals` counts what took
-- records away: a run that began before one of these looks for what is gone.
CREATE TABLE match_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    active_run bigint,
    removals bigint NOT NULL DEFAULT 0
);
INSERT INTO match_state DEFAULT VALUES;

-- Ids of entities, of all runs: none is given twice.
CREATE SEQUENCE entity_id;

-- What people said of records: they are one person, or different ones.
CREATE TABLE decision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record_ids bigint[] NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('same', 'different')),
    note text,
    decided_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    revoked_by text
);

-- Each pair of a decision that was not taken back, the smaller id first.
CREATE TABLE decision_pair (
    record_a bigint NOT NULL,
    record_b bigint NOT NULL,
    decision_id bigint NOT NULL,
    PRIMARY KEY (record_a, record_b, decision_id)
);
CREATE INDEX decision_pair_b ON decision_pair (record_b);
CREATE INDEX decision_pair_decision ON decision_pair (decision_id);

CREATE SCHEMA matching;
