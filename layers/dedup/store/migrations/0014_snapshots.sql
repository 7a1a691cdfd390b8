-- Each file asks at its end whether a newer snapshot is in place: of all uploads few are snapshots.
CREATE INDEX upload_snapshot ON upload (object_at) WHERE mode = 'replace' AND status = 'done';
