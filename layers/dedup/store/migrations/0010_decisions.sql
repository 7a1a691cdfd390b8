-- Whose the records of a decision are: what a snapshot brings anew has other ids, and the decision goes over to it. Of
-- decisions that were not taken back. `record_id`: the record that stands for it now.
CREATE TABLE decision_record (
    decision_id bigint NOT NULL,
    record_id bigint NOT NULL,
    source smallint NOT NULL,
    customer_id bigint NOT NULL
);
CREATE INDEX decision_record_decision ON decision_record (decision_id);
INSERT INTO decision_record
    SELECT d.id, r.id, r.source, r.customer_id FROM decision d JOIN record r ON r.id = ANY (d.record_ids)
    WHERE d.revoked_at IS NULL;

-- When it last went over to other records.
ALTER TABLE decision ADD COLUMN followed_at timestamptz;
