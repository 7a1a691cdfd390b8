"""Column mappings: the question about an upload whose columns are not certain, its answer, and mappings that are saved
for a source and a header. What a mapping means is defined in dedup.files.mapping; here it is JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pg8000.native import Connection

from dedup.errors import Conflict
from dedup.store import rejected_rows, samples
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.load_attempt import Load
from dedup.store.salt import Salt
from dedup.store.samples import Row
from dedup.store.sql import iso, jsonb, text
from dedup.store.task_table import SEEN
from dedup.store.uploads import TASKS

MAX_SAVED = 200
"""Most mappings of a source."""

EXPIRED = "No column mapping was given while the file was in the bucket: upload it again"


@dataclass(frozen=True)
class UploadMapping:
    """The mapping of an upload's file. `columns`: what each column was taken for, in order, as {"name", "field",
    "confidence", "reason"}. `proposal`: the mapping that was proposed, if there was a question; `mapping`: the one that
    was stated. `sample`: rows of the file, while the upload needs a mapping."""

    columns: list[dict[str, Any]]
    proposal: dict[str, Any] | None
    mapping: dict[str, Any] | None
    sample: list[Row]


@dataclass(frozen=True)
class Saved:
    """A mapping that is saved for files of a source with these column names."""

    id: int
    source: str
    header: list[str]
    mapping: dict[str, Any]
    saved_by: str
    saved_at: str


class Mappings:
    """The column mappings of one database."""

    def __init__(self, database: Database, salt: Salt) -> None:
        self._database = database
        self._salt = salt

    def ask(
        self,
        load: Load,
        reason: str,
        columns: Sequence[Mapping[str, Any]],
        proposal: Mapping[str, Any],
        sample: Sequence[Row],
    ) -> None:
        """Ends an attempt with a question: the upload needs a mapping. Does nothing when superseded."""
        hashes = self._salt.hashes()

        def work(connection: Connection) -> None:
            connection.run(f"DROP TABLE IF EXISTS {load.table}")
            changes = f"status = 'needs_mapping', reason = {text(reason)}, lease_until = NULL, rows = 0, rejected = 0"
            if TASKS.end(connection, load, changes):
                rows = samples.without_erased(connection, load.id, sample, hashes)
                connection.run(
                    f"""INSERT INTO upload_mapping (upload_id, columns, proposal, sample)
                        VALUES ({load.id}, {jsonb(list(columns))}, {jsonb(proposal)}, {jsonb(rows)})
                        ON CONFLICT (upload_id) DO UPDATE
                        SET columns = excluded.columns, proposal = excluded.proposal, sample = excluded.sample"""
                )

        self._database.write(work, repeatable=True)

    def note(self, load: Load, columns: Sequence[Mapping[str, Any]]) -> None:
        """Records what the columns of a file were taken for. Does nothing when superseded."""
        self._database.write(
            lambda connection: connection.run(
                f"""INSERT INTO upload_mapping (upload_id, columns)
                    SELECT {load.id}, {jsonb(list(columns))} FROM upload WHERE {TASKS.current(load)}
                    ON CONFLICT (upload_id) DO UPDATE SET columns = excluded.columns"""
            ),
            repeatable=True,
        )

    def of_upload(self, upload_id: int) -> UploadMapping | None:
        """The mapping of an upload; None if it has none: records from the API, and files that were not read yet."""
        rows = self._database.read(
            lambda connection: connection.run(
                f"SELECT columns, proposal, mapping, sample FROM upload_mapping WHERE upload_id = {upload_id}"
            )
        )
        if not rows:
            return None
        [[columns, proposal, mapping, sample]] = rows
        return UploadMapping(columns, proposal, mapping, [(line, cells) for line, cells in sample or ()])

    def answer(
        self,
        upload_id: int,
        mapping: Mapping[str, Any],
        source: str | None = None,
        principal: str = UNKNOWN,
        *,
        header: Sequence[str] | None = None,
    ) -> None:
        """States the mapping of an upload, which is then loaded by the next message. `source`: of its rows, if the
        upload has none. With a `header`, the mapping is also saved for it and the upload's source. Raises Conflict if
        the upload does not wait for a mapping, or if the source has MAX_SAVED mappings."""

        def work(connection: Connection) -> None:
            changed = connection.run(
                f"""UPDATE upload SET status = 'waiting', reason = NULL, announced_at = NULL, {SEEN},
                        source = coalesce(source, {text(source)})
                    WHERE id = {upload_id} AND status = 'needs_mapping' RETURNING source"""
            )
            if not changed:
                raise Conflict("The upload does not wait for a column mapping")
            connection.run(
                f"""UPDATE upload_mapping SET mapping = {jsonb(mapping)}, sample = NULL
                    WHERE upload_id = {upload_id}"""
            )
            record_action(connection, "map columns", principal, upload_id=upload_id)
            [[owner]] = changed
            if header is not None and owner:
                _save(connection, owner, header, mapping, principal)

        self._database.write(work, repeatable=False)

    def save(self, source: str, header: Sequence[str], mapping: Mapping[str, Any], principal: str = UNKNOWN) -> Saved:
        """Saves a mapping for files of a source with these column names, in place of the one before. Raises
        Conflict if the source has MAX_SAVED mappings."""
        saved_id = self._database.write(
            lambda connection: _save(connection, source, header, mapping, principal), repeatable=True
        )
        [saved] = self._find(f"id = {saved_id}")
        return saved

    def saved(self, source: str) -> list[Saved]:
        """The saved mappings of a source, the latest first."""
        return self._find(f"source = {text(source)}")

    def delete(self, source: str, mapping_id: int | None = None) -> int:
        """Deletes a saved mapping of a source, or all of them; returns how many."""
        one = "" if mapping_id is None else f"AND id = {mapping_id}"
        deleted = self._database.write(
            lambda connection: connection.run(
                f"DELETE FROM source_mapping WHERE source = {text(source)} {one} RETURNING id"
            ),
            repeatable=False,
        )
        return len(deleted)

    def expire(self, days: int) -> list[int]:
        """Ends uploads that have waited for a mapping until their objects expired, `days` after they were put into the
        bucket, and deletes their rows; returns the ids of at most a hundred."""

        def work(connection: Connection) -> list[int]:
            expired = connection.run(
                f"""UPDATE upload SET status = 'failed', reason = {text(EXPIRED)}, announced_at = NULL,
                        finished_at = clock_timestamp()
                    WHERE id = ANY (ARRAY(
                        SELECT id FROM upload WHERE status = 'needs_mapping'
                            AND object_at < now() - interval '{days} days'
                        ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED))
                    RETURNING id"""
            )
            ids = [upload_id for [upload_id] in expired]
            if ids:
                samples.forget_uploads(connection, ids)
                rejected_rows.hide_keys_of_erased(connection, ids)
            return ids

        return self._database.write(work, repeatable=True)

    def _find(self, condition: str) -> list[Saved]:
        rows = self._database.read(
            lambda connection: connection.run(
                f"""SELECT id, source, header, mapping, saved_by, {iso("saved_at")} FROM source_mapping
                    WHERE {condition} ORDER BY saved_at DESC, id DESC LIMIT {MAX_SAVED}"""
            )
        )
        return [Saved(*row) for row in rows]


def _save(
    connection: Connection, source: str, header: Sequence[str], mapping: Mapping[str, Any], principal: str
) -> int:
    names = jsonb(sorted(header))
    [[count]] = connection.run(
        f"SELECT count(*) FROM source_mapping WHERE source = {text(source)} AND header_key <> md5({names}::text)"
    )
    if count >= MAX_SAVED:
        raise Conflict(f"The source has {MAX_SAVED} saved column mappings: delete some of them first")
    [[saved_id]] = connection.run(
        f"""INSERT INTO source_mapping (source, header_key, header, mapping, saved_by)
            VALUES ({text(source)}, md5({names}::text), {jsonb(list(header))}, {jsonb(mapping)}, {text(principal)})
            ON CONFLICT (source, header_key) DO UPDATE SET header = excluded.header, mapping = excluded.mapping,
                saved_by = excluded.saved_by, saved_at = now()
            RETURNING id"""
    )
    record_action(connection, "save mapping", principal)
    return int(saved_id)
