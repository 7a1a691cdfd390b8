-- What may be known of a customer beside name and email, as it came. Columns without a default: no row is rewritten.
ALTER TABLE record
    ADD COLUMN phone text,
    ADD COLUMN company text,
    ADD COLUMN address text,
    ADD COLUMN city text,
    ADD COLUMN postcode text,
    ADD COLUMN country text,
    ADD COLUMN date_of_birth text;
