-- A run that EMR Serverless works on. `handed`: its name there, and what it reads and where, as it was when it was handed
-- over. Who looks after it is an attempt too: `looked` is the last one that found it going on, and does not count.
ALTER TABLE match_run ADD COLUMN handed jsonb, ADD COLUMN looked int NOT NULL DEFAULT 0;
