-- By what an exact duplicate is found, in the tables of the runs that are there: see dedup.store.entities. They are the
-- application's: who made its role may become a member of it.
DO $$
DECLARE
    members record;
    forms text := 'given, family, email, phone, company, address, city, postcode, country, date_of_birth';
BEGIN
    FOR members IN
        SELECT relname, relowner::regrole AS owner FROM pg_class
        WHERE relnamespace = 'matching'::regnamespace AND relkind = 'r' AND relname ~ '^member_[0-9]+$'
    LOOP
        IF NOT pg_has_role(members.owner, 'USAGE') THEN
            EXECUTE format('GRANT %s TO CURRENT_USER', members.owner);
        END IF;
        EXECUTE format(
            'CREATE INDEX ON matching.%1$I (hash_record_extended((%2$s), 0), record_id) WHERE NOT (%2$s) IS NULL',
            members.relname, forms);
        EXECUTE format(
            'CREATE INDEX ON matching.%1$I (source, customer_id, hash_record_extended((%2$s), 0)) WHERE NOT (%2$s) IS NULL',
            members.relname, forms);
    END LOOP;
END $$;

-- Whoever works on a run makes tables without them: the next delivery starts over.
UPDATE match_run SET attempt = attempt + 1, polls = polls + 1, lease_until = now(), submitted = NULL
WHERE status = 'running';
