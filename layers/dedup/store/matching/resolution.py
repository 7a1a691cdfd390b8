"""Resolving the entities of some records again, as a run does, after a decision about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pg8000.native import Connection

from dedup.matching.clustering import STRONGEST, Edge, Facts, keep_ids, resolve
from dedup.matching.rules import identity_rule, rules_of
from dedup.store.matching import members
from dedup.store.matching.attach import free_entities
from dedup.store.matching.exact_duplicates import is_representative, representative_of
from dedup.store.matching.run_tables import RunTables, entities_of, settings_of
from dedup.store.sql import bigints

_NEW = 2**62
"""From here on, an entity id is a placeholder: the id is assigned once it is known that it is needed."""


@dataclass(frozen=True)
class _Scope:
    """The records to resolve. `facts`: what constraints look at, by representative; `former`: the entity of each
    record; `representative`: of each exact duplicate."""

    facts: Mapping[int, Facts]
    former: Mapping[int, int]
    representative: Mapping[int, int]


def resolve_again(
    connection: Connection, tables: RunTables, record_ids: Sequence[int], former: RunTables | None = None
) -> None:
    """Resolves the entities of some records again from their edges and the decisions, as a run does. New entities get
    the ids that they have in the run `former`, if those are free. The caller holds ENTITIES_LOCK_EXCLUSIVE."""
    # The decision is about these records, not about their representatives.
    members.give_values(connection, tables, members.representatives_of(connection, tables, record_ids))
    settings = settings_of(connection, tables)
    scope = _scope(connection, tables, _affected(connection, tables, record_ids), settings)
    clusters = _clusters(connection, tables, scope, settings)
    entity_of = keep_ids(clusters, scope.former, _NEW)
    if former:
        new = [cluster for cluster in clusters if entity_of[min(cluster)] >= _NEW]
        free = free_entities(connection, tables, former, sorted(frozenset().union(*new)))
        entity_of |= keep_ids(new, free, _NEW)
    placeholders = sorted({entity for entity in entity_of.values() if entity >= _NEW})
    ids = connection.run(f"SELECT nextval('entity_id') FROM generate_series(1, {len(placeholders)})")
    assigned = dict(zip(placeholders, (entity for [entity] in ids), strict=True))
    target = {record: assigned.get(entity, entity) for record, entity in entity_of.items()}
    members.move(
        connection, tables, {record: entity for record, entity in target.items() if entity != scope.former[record]}
    )


def _affected(connection: Connection, tables: RunTables, record_ids: Sequence[int]) -> set[int]:
    """The entities of the records, and those that a decision would merge with them but another keeps apart."""
    found: set[int] = set()
    more = set(entities_of(connection, tables, record_ids).values())
    while more - found:
        found |= more
        rows = connection.run(
            f"""SELECT DISTINCT o.entity_id FROM {tables.member} m
                JOIN decision_pair p ON m.record_id IN (p.record_a, p.record_b)
                JOIN decision d ON d.id = p.decision_id AND d.verdict = 'same'
                JOIN {tables.member} o ON o.record_id IN (p.record_a, p.record_b)
                WHERE m.entity_id = ANY ({bigints(found)})"""
        )
        more = {entity for [entity] in rows}
    return found


def _scope(connection: Connection, tables: RunTables, entities: set[int], settings: Mapping[str, Any]) -> _Scope:
    rules = rules_of(settings)
    customer = "format('%s %s', source, customer_id)" if identity_rule(rules) else "NULL"
    rows = connection.run(
        f"""SELECT record_id, entity_id, date_of_birth, given, family, root, formal, {customer},
                {representative_of("m", rules)}
            FROM {tables.member} m WHERE entity_id = ANY ({bigints(entities)}) AND {is_representative("m")}"""
    )
    facts = {record: Facts(*known) for record, _, *known in rows}
    former = {record: entity for record, entity, *_ in rows}
    representative = members.duplicates_of(connection, tables, bigints(facts))
    former |= {record: former[other] for record, other in representative.items()}
    return _Scope(facts, former, representative)


def _clusters(
    connection: Connection, tables: RunTables, scope: _Scope, settings: Mapping[str, Any]
) -> list[frozenset[int]]:
    """The clusters of the records in scope, with their exact duplicates."""
    ids = bigints(scope.facts)
    verdicts: dict[tuple[int, int], str] = {
        (a, b): verdict
        for a, b, verdict in connection.run(
            f"""SELECT p.record_a, p.record_b, d.verdict FROM decision_pair p JOIN decision d ON d.id = p.decision_id
                WHERE p.record_a = ANY ({ids}) AND p.record_b = ANY ({ids}) ORDER BY d.id"""
        )
    }
    strengths = {rule["name"]: STRONGEST - position for position, rule in enumerate(settings["rules"])}
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
        scope.facts,
        edges,
        apart,
        max_entity=constraints["max_entity"],
        contradictions=tuple(constraints["contradictions"]),
    )
    return [
        cluster | {record for record, other in scope.representative.items() if other in cluster} for cluster in clusters
    ]
