-- A file finds the upload that was expected for its object by this, also one that was deleted before the file arrived.
DROP INDEX upload_waiting;
CREATE INDEX upload_expected ON upload (object_key) WHERE key IS NULL AND object_key IS NOT NULL;
