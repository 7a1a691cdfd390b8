-- An upload whose deletion waits for the queue.
ALTER TABLE upload DROP CONSTRAINT upload_status_check, ADD CONSTRAINT upload_status_check
    CHECK (status IN ('waiting', 'loading', 'done', 'failed', 'deleting', 'deleted'));
