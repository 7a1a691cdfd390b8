-- Who did what, when, to which upload or customer; written in the transaction of what was done. `principal` is the
-- caller's ARN or the subject of their token. No names and no addresses: what was erased is not kept here.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    principal text NOT NULL,
    action text NOT NULL,
    upload_id bigint,
    customer_id bigint,
    records bigint
);
CREATE INDEX audit_upload ON audit (upload_id) WHERE upload_id IS NOT NULL;
CREATE INDEX audit_customer ON audit (customer_id) WHERE customer_id IS NOT NULL;
