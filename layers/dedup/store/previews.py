"""Previews, and snapshots that are held: a file is compared with the records and not loaded, until somebody decides.

A load that ends so leaves what it would do: the figures in the row of the upload, and examples. The decision makes the
upload wait for a message; then its file is read and compared again. It is loaded if that shows nothing new: a preview
is applied to the same records with the same rows, and a held snapshot is released for what was shown, or for less."""

from pg8000.native import Connection

from dedup.errors import Conflict
from dedup.store import example_rows, examples, rejected_rows, suspicions
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.differences import Comparison, figures, fingerprint
from dedup.store.examples import Examples
from dedup.store.load_attempt import Decision, Load
from dedup.store.sql import text, texts
from dedup.store.suspicions import Suspicion
from dedup.store.task_table import SEEN
from dedup.store.uploads import COMPARED, NO_FIGURES, TASKS, changes_as_columns, load_failed
from dedup.traces import Hashes

STATUS_OF: dict[Decision, str] = {"apply": "previewed", "release": "held"}
"""The status of an upload about which somebody can decide so."""

EXPIRED = "Nobody decided to load the file while it was in the bucket: upload it again"


class Changed(Exception):
    """A preview shows what is no longer so. The text is for those who applied it."""


class Previews:
    """The previews and held snapshots of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(self, upload_id: int, decision: Decision, principal: str = UNKNOWN) -> bool:
        """Makes an upload that is previewed or held wait for a message, as `principal` decided. If that was decided
        before, does nothing. Returns whether the upload waits. Raises Conflict if it has another status."""

        def work(connection: Connection) -> bool:
            waits = f"id = {upload_id} AND status = '{STATUS_OF[decision]}'"
            if not connection.run(
                f"""UPDATE upload SET status = 'waiting', reason = NULL, announced_at = NULL, {SEEN}, {NO_FIGURES}
                    WHERE {waits} RETURNING id"""
            ):
                return _require_decided(connection, upload_id, decision) == "waiting"
            connection.run(
                f"""UPDATE upload_preview SET decision = '{decision}', examples = NULL WHERE upload_id = {upload_id};
                    DELETE FROM upload_error WHERE upload_id = {upload_id};
                    DELETE FROM upload_warning WHERE upload_id = {upload_id}"""
            )
            record_action(connection, f"{decision} upload", principal, upload_id=upload_id)
            return True

        return self._database.write(work, repeatable=True)

    def examples(self, upload_id: int) -> Examples | None:
        """Examples of what an upload would do; None if it is neither previewed nor held."""
        rows = self._database.read(
            lambda connection: connection.run(
                f"""SELECT examples FROM upload JOIN upload_preview ON upload_id = id
                    WHERE id = {upload_id} AND status = ANY ({texts(COMPARED)})"""
            )
        )
        return (rows[0][0] or {kind: [] for kind in examples.KINDS}) if rows else None

    def end_undecided(self, days: int) -> list[int]:
        """Ends uploads that are previewed or held and can no longer be loaded: their objects expired, `days` after they
        were put into the bucket, or a newer snapshot of their source is in place. Deletes their examples; returns the
        ids of at most a hundred."""
        newer = """(SELECT max(n.id) FROM upload n WHERE n.object_at > u.object_at AND n.source = u.source
            AND n.mode = 'replace' AND n.status = 'done'
            AND NOT EXISTS (SELECT FROM clearing WHERE cleared_at > n.finished_at))"""

        def work(connection: Connection) -> list[int]:
            found = connection.run(
                f"""SELECT id, source, CASE WHEN mode <> 'add' THEN {newer} END FROM upload u
                    WHERE status = ANY ({texts(COMPARED)}) AND (object_at < now() - interval '{days} days'
                        OR mode <> 'add' AND {newer} IS NOT NULL)
                    ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED"""
            )
            for upload_id, source, snapshot in found:
                reason = in_place(source, snapshot) if snapshot else EXPIRED
                connection.run(
                    f"""UPDATE upload SET {load_failed(reason)}, announced_at = NULL, {NO_FIGURES}
                        WHERE id = {upload_id}"""
                )
            ids = [upload_id for upload_id, *_ in found]
            examples.forget_uploads(connection, ids)
            rejected_rows.hide_keys_of_erased(connection, ids)
            return ids

        return self._database.write(work, repeatable=True)


def in_place(source: str, snapshot: int) -> str:
    """The reason why an older file of a source is not loaded."""
    return f"A newer snapshot of {source} is in place: upload {snapshot}"


def ends_without_loading(
    connection: Connection, load: Load, compared: Comparison, hashes: Hashes, max_removed: int
) -> bool:
    """Ends the attempt if the file is not to be loaded: the upload is previewed, or held because it is suspicious.
    Returns whether it did. `max_removed`: see suspicions.find(). Raises Changed if a preview that is applied is out of
    date."""
    if load.dry_run and load.decision:
        _require_unchanged(connection, load, compared)
        return False
    found = suspicions.find(connection, compared, max_removed)
    if not load.dry_run and not (found.reason and _is_news(connection, load, found)):
        return False
    customers, records = figures(connection, compared)
    status = "previewed" if load.dry_run else "held"
    reason = ". ".join(filter(None, [compared.remark, found.reason])) or None
    TASKS.update(
        connection,
        load,
        f"""status = '{status}', reason = {text(reason)}, lease_until = NULL,
            {changes_as_columns(customers)}, {changes_as_columns(records)}""",
    )
    connection.run(
        f"""INSERT INTO upload_preview (upload_id, fingerprint, customers_removed, fields)
            VALUES ({load.id}, {text(compared.fingerprint)}, {customers.removed}, {texts(found.fields)})
            ON CONFLICT (upload_id) DO UPDATE SET fingerprint = excluded.fingerprint, decision = NULL,
                customers_removed = excluded.customers_removed, fields = excluded.fields"""
    )
    examples.keep(connection, load.id, example_rows.find(connection, load.id, compared.staged, hashes))
    # The file of rejected rows is written when the upload is loaded.
    rejected_rows.forget_rows(connection, load.id)
    connection.run(f"DROP TABLE {compared.staged}")
    return True


def _require_decided(connection: Connection, upload_id: int, decision: Decision) -> str:
    """Returns the status of an upload. Raises Conflict unless it was decided before to load it, and that was not in
    vain."""
    [[status, decided]] = connection.run(
        f"""SELECT {TASKS.status}, (SELECT decision FROM upload_preview WHERE upload_id = id) FROM upload
            WHERE id = {upload_id}"""
    )
    if decided != decision or status not in ("waiting", "loading", "done"):
        raise Conflict(f"The upload is not {STATUS_OF[decision]}: its status is {status}")
    return str(status)


def _require_unchanged(connection: Connection, load: Load, compared: Comparison) -> None:
    [[shown]] = connection.run(f"SELECT fingerprint FROM upload_preview WHERE upload_id = {load.id}")
    if fingerprint(connection, compared, load.id) != shown:
        raise Changed(
            "The preview is out of date: the records of the source, or the column mapping of the file, have changed "
            "since. Upload the file again with a preview"
        )


def _is_news(connection: Connection, load: Load, found: Suspicion) -> bool:
    """Whether somebody has to decide: nobody did, or what was shown then was not as bad."""
    if not load.decision:
        return True
    [[removed, fields]] = connection.run(
        f"SELECT customers_removed, fields FROM upload_preview WHERE upload_id = {load.id}"
    )
    return found.removed > removed or not {*found.fields} <= {*fields}
