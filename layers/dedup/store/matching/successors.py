"""Which records replace deleted records in decisions."""

from collections import Counter
from collections.abc import Iterable

from pg8000.native import Connection

from dedup.records import DETAILS
from dedup.store.customer_columns import as_text
from dedup.store.matching.decisions import log_changed, set_pairs
from dedup.store.sql import bigints

COMPARED = DETAILS
"""The columns of a record that are compared to find its successor."""

SUCCESSORS = 200
"""Records of one source and customer among which the successors of deleted records are looked for."""


def move_decisions(connection: Connection, leaving: str = "false") -> None:
    """Moves decisions about records that are deleted, or are about to be, to other records of the same source and
    customer. `leaving`: a condition on the columns of record for those about to be deleted. While they exist, they can
    be compared with the records that stay.

    Two records of a decision never become one. If too few records are left, the decision is dormant: it is kept, and
    has no effect until other records are added."""
    rows = connection.run(
        f"""WITH d AS MATERIALIZED (
                SELECT d.*, o.id IS NULL OR o.leaves AS gone FROM decision_record d
                LEFT JOIN (SELECT id, ({leaving}) AS leaves FROM record) AS o ON o.id = d.record_id
            )
            SELECT decision_id, record_id, gone, source, {as_text("d")} FROM d
            WHERE (source, {as_text("d")}) IN (SELECT source, {as_text("d")} FROM d WHERE gone) ORDER BY 1, 2"""
    )
    if not rows:
        return
    gone = {record for _, record, is_gone, *_ in rows if is_gone}
    referenced = Counter(customer for *_, source, customer in {(record, *whose) for _, record, _, *whose in rows})
    in_common = " + ".join(f"(r.{field} IS NOT DISTINCT FROM g.{field})::int" for field in COMPARED)
    compared = ", ".join(f"o.{field}" for field in COMPARED)
    alike = connection.run(
        f"""SELECT g.record_id, n.id, n.in_common FROM (
                SELECT DISTINCT d.record_id, d.source, d.customer_id, d.text_id, o.id, {compared}
                FROM decision_record d LEFT JOIN record o ON o.id = d.record_id
                WHERE d.record_id = ANY ({bigints(gone)})
            ) AS g CROSS JOIN LATERAL (
                SELECT r.id, CASE WHEN g.id IS NULL THEN 0 ELSE {in_common} END AS in_common
                FROM (SELECT * FROM record WHERE NOT ({leaving})) AS r
                WHERE (r.customer_id = g.customer_id OR r.text_id = g.text_id) AND r.source = g.source
                ORDER BY in_common DESC, r.id LIMIT {min(max(referenced.values()), SUCCESSORS)}
            ) AS n"""
    )
    moves = successors([(decision, record, is_gone) for decision, record, is_gone, *_ in rows], alike)
    if not moves:
        return
    decided, records, others = (bigints(column) for column in zip(*moves, strict=True))
    connection.run(
        f"""UPDATE decision_record d SET record_id = m.successor
            FROM unnest({decided}, {records}, {others}) AS m (decision_id, record_id, successor)
            WHERE d.decision_id = m.decision_id AND d.record_id = m.record_id"""
    )
    found = sorted({decision for decision, *_ in moves})
    set_pairs(connection, found)
    connection.run(
        f"""UPDATE decision d SET followed_at = clock_timestamp(), record_ids = ARRAY(
                SELECT DISTINCT record_id FROM decision_record WHERE decision_id = d.id ORDER BY 1)
            WHERE id = ANY ({bigints(found)})"""
    )
    log_changed(connection, found)


def successors(
    rows: Iterable[tuple[int, int, bool]], alike: Iterable[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """Which records replace deleted records in decisions: (decision, record, successor).

    `rows`: (decision, record, whether it is deleted). `alike`: (deleted record, another of the same source and
    customer, how many fields of COMPARED are equal). The most similar come first, then the order of ids. A record has
    the same successor in all decisions, and shares it only with records that are equal in all fields."""
    gone: dict[int, list[int]] = {}
    used: dict[int, set[int]] = {}
    taken = set()
    for decision, record, is_gone in rows:
        used.setdefault(decision, set())
        if is_gone:
            gone.setdefault(decision, []).append(record)
        else:
            used[decision].add(record)
            taken.add(record)
    first = sorted(alike, key=lambda pair: (-pair[2], *pair[:2]))
    own: dict[int, int] = {}
    for record, other, _ in first:
        if record not in own and other not in taken:
            own[record] = other
            taken.add(other)
    moves = []
    for decision, records in gone.items():
        used[decision] |= {own[record] for record in records if record in own}
        for record in records:
            same = (
                other
                for one, other, in_common in first
                if one == record and in_common == len(COMPARED) and other not in used[decision]
            )
            successor = own.get(record) or next(same, None)
            if successor:
                used[decision].add(successor)
                moves.append((decision, record, successor))
    return moves
