-- What was wrong with an upload's rejected rows: in how many a field was missing, and in how many it was not as it has to be.
CREATE TABLE upload_error (
    upload_id bigint NOT NULL,
    field text NOT NULL,
    missing bigint NOT NULL,
    malformed bigint NOT NULL,
    PRIMARY KEY (upload_id, field)
);
