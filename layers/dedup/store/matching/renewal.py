"""Bringing the members of a run up to date after their records were changed."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pg8000.native import Connection

from dedup.matching import normalise
from dedup.matching.rules import IDENTITY, Rule, term_columns
from dedup.store.matching import attach, detach, members
from dedup.store.matching.attach import BATCH, NewMember
from dedup.store.matching.resolution import resolve_again
from dedup.store.matching.run_tables import RunTables, entities_of, settings_of
from dedup.store.sql import bigints, text


def renew(connection: Connection, tables: RunTables, record_ids: Sequence[int]) -> None:
    """Gives members the normalised values of their records, by record ids in order. Members whose values are the same
    are not touched.

    A member stays in its entity, and keeps its edges until the next run looks again, if a match rule joins its new
    values with its former ones. Otherwise it leaves, and joins by the rules as a new record does. Records that are not
    members yet become members. The caller holds ENTITIES_LOCK_EXCLUSIVE, or nobody else uses the run."""
    settings = attach.rule_settings(connection, tables)
    terms = term_columns(settings_of(connection, tables))
    moving: list[int] = []
    for start in range(0, len(record_ids), BATCH):
        new = attach.new_members(connection, record_ids[start : start + BATCH], settings.conventions)
        former = _former_values(connection, tables, [member.record_id for member in new])
        staying = []
        for member in new:
            was = former.get(member.record_id)
            if was == member.columns:
                continue
            if was and any(_joins(rule, was, member.columns) for rule in settings.rules):
                staying.append(member)
            else:
                moving.append(member.record_id)
        _update(connection, tables, staying)
        _remove_terms(connection, tables, terms, staying, former)
    _join_again(connection, tables, moving)


def _joins(rule: Rule, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    key = rule.key(one)
    return key is not None and key == rule.key(other) and not rule.differs(one, other)


def _former_values(connection: Connection, tables: RunTables, record_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The columns of members; of exact duplicates, the normalised values of their representatives."""
    standing = members.representatives_of(connection, tables, record_ids)
    columns = (*IDENTITY, *normalise.COLUMNS)
    rows = connection.run(
        f"""SELECT record_id, {", ".join(columns)} FROM {tables.member}
            WHERE record_id = ANY ({bigints({*record_ids, *standing.values()})})"""
    )
    values = {record: dict(zip(columns, row, strict=True)) for record, *row in rows}
    return {
        record: values[standing.get(record, record)] for record in record_ids if standing.get(record, record) in values
    }


def _update(connection: Connection, tables: RunTables, changed: Sequence[NewMember]) -> None:
    """Writes the normalised values of members. Their exact duplicates get the former ones."""
    if not changed:
        return
    representatives = bigints(member.record_id for member in changed)
    members.give_values(connection, tables, members.duplicates_of(connection, tables, representatives))
    rows = [{"record_id": member.record_id, **member.columns} for member in changed]
    values = ", ".join(f"{column} = n.{column}" for column in normalise.COLUMNS)
    connection.run(
        f"""UPDATE {tables.member} m SET {values}
            FROM json_populate_recordset(NULL::{tables.member}, {text(json.dumps(rows))}) AS n
            WHERE m.record_id = n.record_id"""
    )


def _remove_terms(
    connection: Connection,
    tables: RunTables,
    fields: Sequence[str],
    changed: Sequence[NewMember],
    former: Mapping[int, Mapping[str, Any]],
) -> None:
    """Removes the terms of the values that members had before, if no member has them now."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    for member in changed:
        was = former[member.record_id]
        for field in fields:
            if was[field] is not None and was[field] != member.columns[field]:
                values[field].add(was[field])
    for field, lost in values.items():
        detach.remove_unused_terms(connection, tables, field, sorted(lost))


def _join_again(connection: Connection, tables: RunTables, moving: Sequence[int]) -> None:
    """Takes records out of their entities, and adds them as new records are added. One that joins nobody keeps the id
    of its entity if the others have left it."""
    if not moving:
        return
    entity_of = entities_of(connection, tables, moving)
    detach.detach_members(connection, tables, f"record_id = ANY ({bigints(moving)})")
    entities = bigints({*entity_of.values()})
    left = connection.run(
        f"""SELECT e FROM unnest({entities}) AS t (e)
            WHERE NOT EXISTS (SELECT FROM {tables.member} m WHERE m.entity_id = e)"""
    )
    first = {entity: record for record, entity in sorted(entity_of.items(), reverse=True)}
    free = {first[entity]: entity for [entity] in left}
    batches = (moving[start : start + BATCH] for start in range(0, len(moving), BATCH))
    attach.attach_batches(connection, tables, batches, free)
    decided = connection.run(
        f"""SELECT id FROM unnest({bigints(moving)}) AS t (id)
            WHERE EXISTS (SELECT FROM decision_pair p WHERE t.id IN (p.record_a, p.record_b))"""
    )
    if decided:
        resolve_again(connection, tables, [record for [record] in decided])
