-- The row of a task is its outbox. `enqueued_at`: when a message for it was sent last, or taken up, or given back to the
-- queue; null where the queue did not take it. `sends`: messages that were sent since it was begun last. The sweeper
-- sends another one to what has waited too long, and ends what can't go on.
ALTER TABLE export ADD COLUMN enqueued_at timestamptz DEFAULT now(), ADD COLUMN sends int NOT NULL DEFAULT 1;
ALTER TABLE match_run ADD COLUMN enqueued_at timestamptz DEFAULT now(), ADD COLUMN sends int NOT NULL DEFAULT 1;
ALTER TABLE erasure ADD COLUMN enqueued_at timestamptz DEFAULT now(), ADD COLUMN sends int NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN enqueued_at timestamptz DEFAULT now(), ADD COLUMN sends int NOT NULL DEFAULT 1;

-- What the message of an upload said beside its id: which version of the object, and who put it there; who asked for its
-- deletion.
ALTER TABLE upload
    ADD COLUMN enqueued_at timestamptz DEFAULT now(),
    ADD COLUMN sends int NOT NULL DEFAULT 1,
    ADD COLUMN object_version text,
    ADD COLUMN sender text,
    ADD COLUMN deleted_by text;

-- Few are open at any time, and all that ever were are kept.
CREATE INDEX export_open ON export (id) WHERE status IN ('waiting', 'running');
CREATE INDEX match_run_open ON match_run (id) WHERE status IN ('waiting', 'running');
CREATE INDEX erasure_open ON erasure (id) WHERE status IN ('waiting', 'running');
CREATE INDEX job_open ON job (id) WHERE status IN ('waiting', 'running');
CREATE INDEX upload_open ON upload (id) WHERE status IN ('waiting', 'loading', 'deleting');
