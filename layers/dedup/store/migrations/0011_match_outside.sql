-- A run that EMR Serverless works on. `submitted`: its name there, and what it reads and where, as it was when it was submitted
-- over. Who looks after it is an attempt too: `polls` is the last one that found it going on, and does not count.
ALTER TABLE match_run ADD COLUMN submitted jsonb, ADD COLUMN polls int NOT NULL DEFAULT 0;
