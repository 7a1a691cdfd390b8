-- The full name that a given name is short for, in the tables of the runs that are there. They are the application's: who
-- made its role may become a member of it. Nothing is known of the names until the next run.
DO $$
DECLARE
    members record;
BEGIN
    FOR members IN
        SELECT relname, relowner::regrole AS owner FROM pg_class
        WHERE relnamespace = 'matching'::regnamespace AND relkind = 'r' AND relname ~ '^member_[0-9]+$'
    LOOP
        IF NOT pg_has_role(members.owner, 'USAGE') THEN
            EXECUTE format('GRANT %s TO CURRENT_USER', members.owner);
        END IF;
        EXECUTE format('ALTER TABLE matching.%I ADD COLUMN formal text', members.relname);
    END LOOP;
END $$;

-- Whoever works on a run makes tables without it: the next delivery starts over.
UPDATE match_run SET attempt = attempt + 1, polls = polls + 1, lease_until = now(), submitted = NULL
WHERE status = 'running';
