-- Whom a decision is about, those too that was taken back or whose records are gone: an erasure finds it by them.
ALTER TABLE decision ADD COLUMN customer_ids bigint[] NOT NULL DEFAULT '{}';
UPDATE decision d SET customer_ids = ARRAY(
    SELECT customer_id FROM decision_record WHERE decision_id = d.id
    UNION SELECT customer_id FROM record WHERE id = ANY (d.record_ids));

-- Of some decisions that can't be said any more, nor whether one who was erased is among them.
UPDATE decision d SET note = NULL WHERE EXISTS (
    SELECT FROM unnest(d.record_ids) AS i (record_id) WHERE
        NOT EXISTS (SELECT FROM decision_record WHERE decision_id = d.id AND record_id = i.record_id)
        AND NOT EXISTS (SELECT FROM record WHERE id = i.record_id));
