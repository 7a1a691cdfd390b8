"""Finds examples of what a file would do, from the table of differences between its rows and the records."""

import json
from typing import Any

from pg8000.native import Connection

from dedup.records import OPTIONAL
from dedup.store import examples
from dedup.store.customer_columns import as_json as id_as_json
from dedup.store.erased_since import erased_since
from dedup.store.examples import KINDS, Examples
from dedup.store.record_columns import as_json, members
from dedup.store.records import record_text
from dedup.store.snapshots import DIFFERENCES, PAIRED
from dedup.store.sql import PAGE_BYTES
from dedup.traces import Hashes

MOST = 100
"""Most examples of each kind."""

_BYTES = PAGE_BYTES // len(KINDS)
"""Most UTF-8 bytes of the examples of each kind."""


def find(connection: Connection, upload_id: int, staged: str, hashes: Hashes) -> Examples:
    """Returns the first examples of each kind, without customers who were erased since the file was put into the
    bucket. Keeps erasures from starting until the commit."""
    gone = erased_since(connection, upload_id)
    lines = {"added": _added(staged), "changed": _changed(staged), "removed": _removed()}
    found = {kind: _parsed(connection, lines[kind]) for kind in KINDS}
    return examples.without(found, gone, hashes) if gone else found


def _parsed(connection: Connection, query: str) -> list[dict[str, Any]]:
    """The examples of a query for `place`, by which they are ordered, and `line`, their JSON text: at most MOST, and
    _BYTES."""
    rows = connection.run(
        f"""WITH first AS MATERIALIZED ({query} ORDER BY place LIMIT {MOST})
            SELECT line FROM (
                SELECT place, line, sum(octet_length(line)) OVER (ORDER BY place) AS bytes FROM first
            ) AS measured WHERE bytes <= {_BYTES} ORDER BY place"""
    )
    return [json.loads(line) for [line] in rows]


def _first(condition: str, order: str) -> str:
    """A query for the first differences that meet a condition: few, before anything is joined to them."""
    return f"SELECT staged, record_id FROM {DIFFERENCES} WHERE {condition} ORDER BY {order} LIMIT {MOST}"


def _added(staged: str) -> str:
    return f"""SELECT s.place, '{{"customer_id":' || {id_as_json("s")}::text
            || ',"name":' || coalesce(to_json(s.name)::text, 'null')
            || ',"email":' || coalesce(to_json(s.email)::text, 'null')
            || ',"source":' || to_json(o.name)::text || {members("s")} || '}}' AS line
        FROM (SELECT d.staged AS place, s.* FROM ({_first("record_id IS NULL", "staged")}) AS d
            JOIN {staged} s ON s.ctid = d.staged) AS s JOIN source o ON o.bit = s.source"""


def _removed() -> str:
    gone = f"SELECT r.* FROM ({_first('staged IS NULL', 'record_id')}) AS d JOIN record r ON r.id = d.record_id"
    return f"SELECT id AS place, line FROM ({record_text(gone)}) AS r"


def _changed(staged: str) -> str:
    changes = " || ".join(_change(field) for field in ("name", "email", *OPTIONAL))
    return f"""SELECT r.id AS place, '{{"id":' || r.id || ',"customer_id":' || {id_as_json("r")}::text
            || ',"source":' || to_json(o.name)::text || ',"changes":{{' || substr({changes}, 2) || '}}}}' AS line
        FROM ({_first(PAIRED, "record_id")}) AS d
        JOIN {staged} s ON s.ctid = d.staged JOIN record r ON r.id = d.record_id JOIN source o ON o.bit = r.source"""


def _change(field: str) -> str:
    """An expression for a field's change as a member of a JSON object, with a comma before it; empty if it is the
    same."""
    before, after = (f"coalesce({as_json(field, f'{alias}.{field}')}, 'null')" for alias in ("r", "s"))
    change = f"""',"{field}":{{"from":' || {before} || ',"to":' || {after} || '}}'"""
    return f"CASE WHEN {before} = {after} THEN '' ELSE {change} END"
