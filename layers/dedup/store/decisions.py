"""What people said of records: they are one person, or different ones. It is said of records, and goes over to those
that take their place."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pg8000.native import Connection

from dedup.errors import Conflict
from dedup.matching.clustering import STRONGEST, Edge, Facts, keep_ids, resolve
from dedup.matching.rules import identity_rule, rules_of
from dedup.records import KNOWN
from dedup.store import entities
from dedup.store.base import TRY_MERGE_LOCK, Base, bigints, iso, note, text
from dedup.store.entities import ALONE, Tables, active_run

_NEW = 2**62
"""From here on an entity's id stands for one that is given when it is known that it is needed."""

COMPARED = ("name", "email", *KNOWN)
"""The columns of a record that say who takes its place."""

SUCCESSORS = 200
"""Records of one source and customer among which the successors of those are looked for that are gone."""


class Decisions(Base):
    """The decisions of one database."""

    def decide(
        self, record_ids: Sequence[int], verdict: str, text_of_note: str | None, principal: str
    ) -> dict[str, Any]:
        """Keeps what someone said of records, and does at once what can be done in the active run; the decision.
        Raises LookupError, which names the records that there are not."""
        ids = sorted(set(record_ids))

        def work(connection: Connection) -> dict[str, Any]:
            tables = active_run(connection, ALONE)
            there = {record for [record] in connection.run(f"SELECT id FROM record WHERE id = ANY ({bigints(ids)})")}
            if missing := [str(record) for record in ids if record not in there]:
                raise LookupError(f"No such record: {', '.join(missing)}")
            [[decision]] = connection.run(
                f"""INSERT INTO decision (record_ids, customer_ids, verdict, note, decided_by)
                    SELECT {bigints(ids)}, array_agg(DISTINCT customer_id), {text(verdict)}, {text(text_of_note)},
                        {text(principal)} FROM record WHERE id = ANY ({bigints(ids)}) RETURNING id"""
            )
            connection.run(
                f"""INSERT INTO decision_record
                    SELECT {decision}, id, source, customer_id FROM record WHERE id = ANY ({bigints(ids)})"""
            )
            _pair(connection, [decision])
            note(connection, f"decide {verdict}", principal, records=len(ids))
            if tables:
                resolve_again(connection, tables, ids)
            return said(connection, f"id = {decision}", 1)[0]

        return self._database.write(work, repeatable=False)

    def revoke(self, decision: int, principal: str) -> dict[str, Any] | None:
        """Takes a decision back, and undoes at once what can be undone in the active run; the decision, or None where
        there is none. Raises Conflict where it was taken back before."""

        def work(connection: Connection) -> dict[str, Any] | None:
            tables = active_run(connection, ALONE)
            found = said(connection, f"id = {decision}", 1)
            if not found:
                return None
            if found[0]["revoked_at"]:
                raise Conflict("The decision was taken back before")
            connection.run(
                f"""UPDATE decision SET revoked_at = clock_timestamp(), revoked_by = {text(principal)}
                    WHERE id = {decision}"""
            )
            connection.run(
                f"""DELETE FROM decision_pair WHERE decision_id = {decision};
                    DELETE FROM decision_record WHERE decision_id = {decision}"""
            )
            note(connection, "revoke decision", principal, records=len(found[0]["record_ids"]))
            if tables:
                resolve_again(connection, tables, found[0]["record_ids"])
            return said(connection, f"id = {decision}", 1)[0]

        return self._database.write(work, repeatable=False)

    def decisions(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """What people said, the newest first, what was taken back too."""
        condition = "true" if before is None else f"id < {before}"
        return self._database.read(lambda connection: said(connection, condition, limit))


def said(connection: Connection, condition: str, limit: int) -> list[dict[str, Any]]:
    """The decisions for which a condition holds, the newest first."""
    rows = connection.run(
        f"""SELECT row_to_json(d)::text FROM (
                SELECT id, record_ids, verdict, note, decided_by,
                    {iso("created_at")} AS created_at,
                    {iso("revoked_at")} AS revoked_at, revoked_by,
                    revoked_at IS NULL AND (SELECT count(*) FROM record r WHERE r.id = ANY (record_ids)) < 2 AS dormant
                FROM decision WHERE {condition} ORDER BY id DESC LIMIT {limit}) AS d"""
    )
    return [json.loads(row) for [row] in rows]


def _pair(connection: Connection, decisions: Sequence[int]) -> None:
    """Makes the pairs of decisions those of the records that stand for them."""
    chosen = f"decision_id = ANY ({bigints(decisions)})"
    connection.run(f"DELETE FROM decision_pair WHERE {chosen}")
    connection.run(
        f"""WITH one AS (SELECT DISTINCT decision_id, record_id FROM decision_record WHERE {chosen})
            INSERT INTO decision_pair SELECT a.record_id, b.record_id, decision_id
            FROM one a JOIN one b USING (decision_id) WHERE a.record_id < b.record_id"""
    )


def follow(connection: Connection, leaving: str = "false") -> list[int]:
    """Moves decisions about records that are gone, or are about to be deleted, to other records of the same source and
    customer; the decisions that moved. `leaving` is the condition, in SQL on the columns of record, of what is about
    to be deleted: only while it is there can it be compared with what stays.

    Two records of a decision never become one. Where too few records are left, the decision is dormant until others
    come: it is kept, and says nothing."""
    rows = connection.run(
        f"""WITH d AS MATERIALIZED (
                SELECT d.*, o.id IS NULL OR o.leaves AS gone FROM decision_record d
                LEFT JOIN (SELECT id, ({leaving}) AS leaves FROM record) AS o ON o.id = d.record_id
            )
            SELECT decision_id, record_id, gone, source, customer_id FROM d
            WHERE (source, customer_id) IN (SELECT source, customer_id FROM d WHERE gone) ORDER BY 1, 2"""
    )
    if not rows:
        return []
    gone = {record for _, record, is_gone, *_ in rows if is_gone}
    referenced = Counter(customer for *_, source, customer in {(record, *whose) for _, record, _, *whose in rows})
    in_common = " + ".join(f"(r.{field} IS NOT DISTINCT FROM g.{field})::int" for field in COMPARED)
    alike = connection.run(
        f"""SELECT g.record_id, n.id, n.in_common FROM (
                SELECT DISTINCT d.record_id, d.source, d.customer_id, {", ".join(f"o.{field}" for field in COMPARED)}
                FROM decision_record d LEFT JOIN record o ON o.id = d.record_id
                WHERE d.record_id = ANY ({bigints(gone)})
            ) AS g CROSS JOIN LATERAL (
                SELECT r.id, CASE WHEN g.name IS NULL THEN 0 ELSE {in_common} END AS in_common
                FROM (SELECT * FROM record WHERE NOT ({leaving})) AS r
                WHERE r.customer_id = g.customer_id AND r.source = g.source
                ORDER BY in_common DESC, r.id LIMIT {min(max(referenced.values()), SUCCESSORS)}
            ) AS n"""
    )
    moves = successors([(decision, record, is_gone) for decision, record, is_gone, *_ in rows], alike)
    if not moves:
        return []
    decided, records, heirs = (bigints(column) for column in zip(*moves, strict=True))
    connection.run(
        f"""UPDATE decision_record d SET record_id = m.heir
            FROM unnest({decided}, {records}, {heirs}) AS m (decision_id, record_id, heir)
            WHERE d.decision_id = m.decision_id AND d.record_id = m.record_id"""
    )
    found = sorted({decision for decision, *_ in moves})
    _pair(connection, found)
    connection.run(
        f"""UPDATE decision d SET followed_at = clock_timestamp(), record_ids = ARRAY(
                SELECT DISTINCT record_id FROM decision_record WHERE decision_id = d.id ORDER BY 1)
            WHERE id = ANY ({bigints(found)})"""
    )
    return found


def successors(
    rows: Iterable[tuple[int, int, bool]], alike: Iterable[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """Which records take the place of records that are gone, in decisions: (decision, record, successor).

    `rows`: (decision, record, whether it is gone). `alike`: (record that is gone, another of the same source and
    customer, how many of COMPARED they have in common). The most alike come first, then the order of the ids. A record
    has the same successor in all decisions, and shares it only with records that are the same in everything."""
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


def hold(connection: Connection, found: Sequence[int]) -> None:
    """Has decisions that moved hold in the active run. The caller is alone, and has taken the records away."""
    tables = active_run(connection)
    if found and tables:
        rows = connection.run(f"SELECT record_id FROM decision_record WHERE decision_id = ANY ({bigints(found)})")
        resolve_again(connection, tables, [record for [record] in rows])


def attach_pending(connection: Connection) -> bool:
    """Makes members of the records of some uploads that are pending, as entities.pending() has them, and has hold what
    was said of them meanwhile; whether there were any. Where somebody keeps from it, the next upload does."""
    if connection.run(f"SELECT {TRY_MERGE_LOCK}") == [[False]]:
        return False
    uploads = entities.pending(connection)
    if not uploads:
        return False
    decided = _decided(connection, uploads)
    if decided:
        connection.run(f"SELECT {ALONE}")
    elif connection.run(f"SELECT {entities.TRY}") == [[False]] or _decided(connection, uploads):
        # Said in between: the next one waits to be alone.
        return False
    tables = entities.attach_uploads(connection, uploads)
    if tables and decided:
        resolve_again(connection, tables, decided)
    return True


def _decided(connection: Connection, uploads: Sequence[int]) -> list[int]:
    """The records of some uploads of which somebody has said something that holds."""
    rows = connection.run(
        f"""SELECT id FROM record r WHERE upload_id = ANY ({bigints(uploads)}) AND EXISTS (
                SELECT FROM decision_pair p WHERE r.id IN (p.record_a, p.record_b))"""
    )
    return [record for [record] in rows]


def forget(connection: Connection, customer_id: int) -> None:
    """Forgets what was said of a customer: their records leave the decisions, with the note, and those that bind no
    others are deleted. The caller is alone."""
    rows = connection.run(
        f"""WITH gone AS (DELETE FROM decision_record WHERE customer_id = {customer_id} RETURNING decision_id)
            SELECT decision_id FROM gone UNION SELECT id FROM decision WHERE {customer_id} = ANY (customer_ids)"""
    )
    if not rows:
        return
    found = [decision for [decision] in rows]
    _pair(connection, found)
    connection.run(
        f"""UPDATE decision d SET note = NULL, customer_ids = array_remove(customer_ids, {customer_id}),
                record_ids = ARRAY(SELECT DISTINCT record_id FROM decision_record WHERE decision_id = d.id ORDER BY 1)
            WHERE id = ANY ({bigints(found)})"""
    )
    connection.run(
        f"""WITH gone AS (
                DELETE FROM decision WHERE id = ANY ({bigints(found)}) AND cardinality(record_ids) < 2 RETURNING id
            ) DELETE FROM decision_record r USING gone WHERE r.decision_id = gone.id"""
    )


def resolve_again(
    connection: Connection, tables: Tables, record_ids: Sequence[int], former: Tables | None = None
) -> None:
    """Makes the entities of some records again from their edges and from what people said, as a run does; those that
    come to be have the ids that they have in `former`, where these are free. The caller is alone."""
    # Somebody has spoken of them, and not of those that they repeat.
    entities.stand_for_themselves(connection, tables, entities.repeated_by(connection, tables, record_ids))
    touched: set[int] = set()
    more = set(entities.entities_of(connection, tables, record_ids).values())
    while more - touched:
        # And those that a decision would have joined with them, and another kept apart.
        touched |= more
        more = {
            entity
            for [entity] in connection.run(
                f"""SELECT DISTINCT o.entity_id FROM {tables.member} m
                    JOIN decision_pair p ON m.record_id IN (p.record_a, p.record_b)
                    JOIN decision d ON d.id = p.decision_id AND d.verdict = 'same'
                    JOIN {tables.member} o ON o.record_id IN (p.record_a, p.record_b)
                    WHERE m.entity_id = ANY ({bigints(touched)})"""
            )
        }
    settings = entities.settings_of(connection, tables)
    rules = rules_of(settings)
    customer = "format('%s %s', source, customer_id)" if identity_rule(rules) else "NULL"
    known_of = f"date_of_birth, given, family, root, formal, {customer}, {entities.says('m', rules)}"
    rows = connection.run(
        f"""SELECT record_id, entity_id, {known_of} FROM {tables.member} m
            WHERE entity_id = ANY ({bigints(touched)}) AND {entities.stands("m")}"""
    )
    facts = {record: Facts(*known) for record, _, *known in rows}
    previous = {record: entity for record, entity, *_ in rows}
    ids = bigints(facts)
    repeats = entities.repeats_of(connection, tables, ids)
    previous |= {record: previous[repeated] for record, repeated in repeats.items()}
    verdicts: dict[tuple[int, int], str] = {
        (a, b): verdict
        for a, b, verdict in connection.run(
            f"""SELECT p.record_a, p.record_b, d.verdict FROM decision_pair p JOIN decision d ON d.id = p.decision_id
                WHERE p.record_a = ANY ({ids}) AND p.record_b = ANY ({ids}) ORDER BY d.id"""
        )
    }
    strengths = {rule["name"]: STRONGEST - place for place, rule in enumerate(settings["rules"])}
    edges = [
        Edge((a, b), strengths[rule] if weight is None else weight)
        for a, b, rule, weight in connection.run(
            f"""SELECT least(record_a, record_b), greatest(record_a, record_b), rule, weight FROM {tables.edge}
                WHERE joins AND record_a = ANY ({ids}) AND record_b = ANY ({ids})"""
        )
        if verdicts.get((a, b)) != "different"
    ]
    edges += [Edge(pair, STRONGEST, binding=True) for pair, verdict in verdicts.items() if verdict == "same"]
    apart = {pair for pair, verdict in verdicts.items() if verdict == "different"}
    constraints = settings["constraints"]
    clusters, _ = resolve(
        facts, edges, apart, max_entity=constraints["max_entity"], contradictions=tuple(constraints["contradictions"])
    )
    whole = [one | {record for record, repeated in repeats.items() if repeated in one} for one in clusters]
    kept = keep_ids(whole, previous, _NEW)
    if former:
        without = [one for one in whole if kept[min(one)] >= _NEW]
        free = entities.free_entities(connection, tables, former, sorted(frozenset().union(*without)))
        kept |= keep_ids(without, free, _NEW)
    new = sorted({entity for entity in kept.values() if entity >= _NEW})
    fresh = connection.run(f"SELECT nextval('entity_id') FROM generate_series(1, {len(new)})")
    names = dict(zip(new, (entity for [entity] in fresh), strict=True))
    target = {record: names.get(entity, entity) for record, entity in kept.items()}
    entities.move(connection, tables, {record: e for record, e in target.items() if e != previous[record]})
