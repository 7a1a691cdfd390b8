"""What people said of records: they are one person, or different ones. It is said of records, and goes over to those
that take their place."""

import json
from collections.abc import Sequence
from typing import Any

from pg8000.native import Connection

from dedup.matching.clustering import STRONGEST, Edge, Facts, keep_ids, resolve
from dedup.matching.rules import identity_rule, rules_of
from dedup.store import entities
from dedup.store.base import TRY_MERGE_LOCK, Base, Conflict, bigints, iso, note, text
from dedup.store.entities import ALONE, Tables, active_run

_NEW = 2**62
"""From here on an entity's id stands for one that is given when it is known that it is needed."""


class Decisions(Base):
    """The decisions of one database."""

    def decide(
        self, record_ids: Sequence[int], verdict: str, text_of_note: str | None, principal: str
    ) -> dict[str, Any]:
        """Keeps what someone said of records, and does at once what can be done in the run in force; the decision.
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
        """Takes a decision back, and undoes at once what can be undone in the run in force; the decision, or None where
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
                    {iso("revoked_at")} AS revoked_at, revoked_by
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


def follow(connection: Connection) -> list[int]:
    """Decisions about records that are gone go over to the earliest ones of the same source and customer; those that
    did. Where there is none, a decision says nothing until one comes."""
    moved = connection.run(
        """UPDATE decision_record d SET record_id = heir.id
           FROM decision_record g CROSS JOIN LATERAL (
               SELECT min(r.id) AS id FROM record r WHERE r.customer_id = g.customer_id AND r.source = g.source
           ) AS heir
           WHERE d.ctid = g.ctid AND heir.id IS NOT NULL AND NOT EXISTS (SELECT FROM record r WHERE r.id = g.record_id)
           RETURNING d.decision_id"""
    )
    found = sorted({decision for [decision] in moved})
    if found:
        _pair(connection, found)
        connection.run(
            f"""UPDATE decision d SET followed_at = clock_timestamp(), record_ids = ARRAY(
                    SELECT DISTINCT record_id FROM decision_record WHERE decision_id = d.id ORDER BY 1)
                WHERE id = ANY ({bigints(found)})"""
        )
    return found


def follow_at_once(connection: Connection) -> None:
    """Decisions about records that are gone go over to others, as follow() says, and hold in the run in force. The
    caller is alone, and has taken the records away."""
    found = follow(connection)
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
