-- The bit that stands for a source in every set of sources. A bit is never given to another name.
CREATE TABLE source (
    bit smallint PRIMARY KEY CHECK (bit BETWEEN 0 AND 62),
    name text NOT NULL UNIQUE
);

-- One batch of records accepted whole. Its row is written in the transaction of its records, so a key that is here
-- has its records here, and the unique key is what makes a repeat write nothing.
CREATE TABLE upload (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text UNIQUE,
    digest text,
    accepted bigint NOT NULL,
    record_id bigint,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The truth. No foreign keys: each would cost a lookup per row in COPY, and only store.py writes here.
CREATE TABLE record (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    upload_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz,
    source smallint NOT NULL,
    name text NOT NULL,
    email text NOT NULL
);
CREATE INDEX record_source ON record (source, id);
CREATE INDEX record_customer ON record (customer_id, source);

-- Which sources have a customer, as bits, kept in step with record. `previous` is what `sources` was before the last
-- change: INSERT … ON CONFLICT returns the new row only, and the count of the region that was left must fall.
CREATE TABLE customer_membership (
    customer_id bigint PRIMARY KEY,
    sources bigint NOT NULL,
    previous bigint NOT NULL DEFAULT 0
);
CREATE INDEX customer_membership_region ON customer_membership (sources, customer_id);

-- What each upload changed: the sum over a set of sources says how many customers have exactly these sources, and how
-- many records come from exactly these (a record comes from one). Appended, summed by readers, compacted now and then.
CREATE TABLE region_change (
    sources bigint NOT NULL,
    customers bigint NOT NULL,
    records bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
