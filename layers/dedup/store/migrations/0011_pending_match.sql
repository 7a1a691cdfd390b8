-- Uploads that came while somebody took many records out of the entities: they are matched when that is done.
CREATE TABLE deferred_match (upload_id bigint PRIMARY KEY);
