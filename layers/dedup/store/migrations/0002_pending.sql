-- What uploads brought while the merge lock was not to be had: to be added to customer_membership, and counted by readers
-- as if it were there already. A customer may be here several times. Nearly always empty.
CREATE TABLE deferred_membership (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    sources bigint NOT NULL
) WITH (
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0
);
CREATE INDEX deferred_membership_customer ON deferred_membership (customer_id, sources);

-- The customers of whom something is pending: in which region they are without it, and with it.
CREATE VIEW deferred_move AS
    SELECT p.customer_id, coalesce(m.sources, 0) AS previous, coalesce(m.sources, 0) | p.sources AS sources
    FROM (SELECT customer_id, bit_or(sources) AS sources FROM deferred_membership GROUP BY customer_id) AS p
    LEFT JOIN customer_membership AS m USING (customer_id);

-- customer_membership and region_change as they are with what is pending.
CREATE VIEW membership_now AS
    SELECT customer_id, sources FROM customer_membership AS m
    WHERE NOT EXISTS (SELECT FROM deferred_membership AS p WHERE p.customer_id = m.customer_id)
    UNION ALL SELECT customer_id, sources FROM deferred_move WHERE sources <> 0;

CREATE VIEW change_now AS
    SELECT sources, customers, records FROM region_change
    UNION ALL SELECT previous, -1, 0 FROM deferred_move WHERE previous <> 0
    UNION ALL SELECT sources, 1, 0 FROM deferred_move WHERE sources <> 0;
