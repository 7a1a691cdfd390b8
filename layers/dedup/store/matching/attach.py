"""Adding the records of an upload to the entities of the active run, by match rules, in the upload's own
transaction."""

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pg8000.native import Connection

from dedup.matching import normalise
from dedup.matching.rules import IDENTITY, Rule, conventions_of, identity_rule, rules_of
from dedup.store.customer_columns import as_text
from dedup.store.locks import ENTITIES_LOCK_SHARED
from dedup.store.matching import members
from dedup.store.matching.exact_duplicates import is_representative, normalised_values, values_hash
from dedup.store.matching.run_tables import RunTables, active_run_and_rows, settings_text
from dedup.store.sql import bigints, text

BATCH = 2_000
"""Records that are normalised and matched by one statement."""

WINDOW = 100_000
"""The range of record ids that is read at a time."""

SHARING = 200
"""Members sharing the columns of a rule that are read at most, to count how many people they are."""

GROWN = 8
"""The members are analysed again once the table has more than twice as many pages as at the last time, and this many
more."""

Values = tuple[Any, ...]
"""The values of some columns of a member."""


@dataclass(frozen=True)
class RuleSettings:
    """What a run's settings say of new records."""

    rules: tuple[Rule, ...]
    conventions: normalise.Conventions
    max_people: int
    """From so many people on who share what a rule asks for, the rule joins exact duplicates only."""
    identity: str | None
    """The name of the rule that joins exact duplicates of one source and customer, if there is one."""


def rule_settings(connection: Connection, tables: RunTables) -> RuleSettings:
    """What the settings of a run say of new records."""
    return _settings(settings_text(connection, tables))


@lru_cache(maxsize=8)
def _settings(settings_json: str) -> RuleSettings:
    settings = json.loads(settings_json)
    rules = rules_of(settings)
    identity = identity_rule(rules)
    max_people = int(settings["constraints"]["max_rule_block"])
    return RuleSettings(rules, conventions_of(settings), max_people, identity.name if identity else None)


@dataclass(frozen=True)
class _Match:
    """A record that a new member joins, and its entity: None if that record is in the same batch, where entities are
    not assigned yet."""

    record_id: int
    entity_id: int | None = None


@dataclass
class NewMember:
    """A record that becomes a member. `columns`: source, customer_id and its normalised values."""

    record_id: int
    columns: dict[str, Any]
    joins: _Match | None = None
    entity_id: int = field(default=0, init=False)
    """Assigned last."""

    @property
    def customer(self) -> Values:
        """Its source and customer."""
        return self.values(IDENTITY)

    @property
    def content(self) -> Values:
        """What exact duplicates have in common."""
        return self.values(normalise.CONTENT)

    def values(self, columns: Iterable[str]) -> Values:
        """Its values of some columns."""
        return tuple(self.columns[column] for column in columns)

    def row(self) -> dict[str, Any]:
        """Its row in the table of members."""
        return {"record_id": self.record_id, "entity_id": self.entity_id, **self.columns}


_Edge = tuple[int, int, str]
"""The earlier record, the later one, and the name of the rule that joins them."""


def attach_upload(
    connection: Connection, upload_id: int, *, wait: bool = True, after: Sequence[str] = ()
) -> Sequence[list[Any]]:
    """Adds the records of an upload to the active run, if there is one. If it must not `wait` for a bulk change, that
    is deferred. The statements `after` are run before, in the same round trip; returns their rows."""
    if not wait:
        deferred = f"INSERT INTO deferred_match (upload_id) VALUES ({upload_id})"
        return connection.run("; ".join([*after, deferred])) or ()
    tables, rows = active_run_and_rows(connection, ENTITIES_LOCK_SHARED, after)
    if tables:
        attach_records(connection, tables, f"r.upload_id = {upload_id}")
    return rows


def attach_missing(connection: Connection, tables: RunTables, records: str, former: RunTables | None = None) -> None:
    """Adds those of the records that are not members yet; see attach_records()."""
    missing = f"{records} AND NOT EXISTS (SELECT FROM {tables.member} m WHERE m.record_id = r.id)"
    attach_records(connection, tables, missing, former)


def attach_records(connection: Connection, tables: RunTables, chosen: str, former: RunTables | None = None) -> None:
    """Adds records, a condition on the record r, to a run; see attach_batches()."""
    attach_batches(connection, tables, _batches(connection, chosen), former)


def attach_batches(
    connection: Connection,
    tables: RunTables,
    batches: Iterable[Sequence[int]],
    former: RunTables | Mapping[int, int] | None = None,
) -> None:
    """Adds records, by their ids, to a run: each joins the entity of the earliest record that the first matching rule
    finds, or becomes an entity of its own, with the id that it has in the run `former` if that is free, or the free id
    that `former` states. Entities are not merged: the next run does that."""
    settings = rule_settings(connection, tables)
    added = array("q")
    for ids in batches:
        added.extend(ids)
        _attach_batch(connection, tables, ids, settings, former)
    # At the end and in order of their ids, so that two uploads wait for one another in one direction only.
    if added:
        members.count_new(connection, tables, added)


def _batches(connection: Connection, chosen: str) -> Iterator[list[int]]:
    """The ids of the chosen records, in order, BATCH at a time. Read by windows of ids: to look through all of an
    upload for each batch takes the square of its time."""

    def first(begin: int) -> int | None:
        # OFFSET 0: otherwise the planner walks along all ids from the first on, to the first that is chosen.
        [[record]] = connection.run(
            f"SELECT min(id) FROM (SELECT r.id FROM record r WHERE {chosen} AND r.id >= {begin} OFFSET 0) AS r"
        )
        return None if record is None else int(record)

    begin = first(0)
    while begin is not None:
        end = begin + WINDOW
        rows = connection.run(
            f"SELECT r.id FROM record r WHERE {chosen} AND r.id >= {begin} AND r.id < {end} ORDER BY r.id"
        )
        ids = [record for [record] in rows]
        yield from (ids[position : position + BATCH] for position in range(0, len(ids), BATCH))
        begin = end if ids else first(end)


def _attach_batch(
    connection: Connection,
    tables: RunTables,
    ids: Sequence[int],
    settings: RuleSettings,
    former: RunTables | Mapping[int, int] | None,
) -> None:
    _refresh_statistics(connection, tables)
    new = new_members(connection, ids, settings.conventions)
    edges = _join_exact_duplicates(connection, tables, new, settings.identity) if settings.identity else []
    edges += _join_by_rules(connection, tables, [member for member in new if not member.joins], settings)
    _assign_entities(connection, tables, new, former)
    connection.run(
        f"""INSERT INTO {tables.member} SELECT * FROM json_populate_recordset(
                NULL::{tables.member}, {_json([member.row() for member in new])})"""
    )
    if edges:
        connection.run(
            f"""INSERT INTO {tables.edge} (record_a, record_b, rule, joins)
                VALUES {", ".join(f"({a}, {b}, {text(rule)}, true)" for a, b, rule in edges)}"""
        )


def new_members(connection: Connection, ids: Sequence[int], conventions: normalise.Conventions) -> list[NewMember]:
    """What records, by their ids, are as members: without those that do not exist, in id order."""
    fields = ", ".join(f"r.{name}" for name in normalise.FIELDS)
    rows = connection.run(
        f"""SELECT r.id, r.source, {as_text("r")}, {fields} FROM record r
            WHERE r.id = ANY ({bigints(ids)}) ORDER BY r.id"""
    )
    return [
        NewMember(
            record_id,
            {
                "source": source,
                "customer_id": customer_id,
                **normalise.record(dict(zip(normalise.FIELDS, values, strict=True)), conventions),
            },
        )
        for record_id, source, customer_id, *values in rows
    ]


def _assign_entities(
    connection: Connection,
    tables: RunTables,
    new: Sequence[NewMember],
    former: RunTables | Mapping[int, int] | None,
) -> None:
    """Gives each member that joins nobody an entity: the one that it has in `former`, if that is free, or a new one;
    and the others the entity of the record that they join."""
    alone = [member for member in new if not member.joins]
    free: dict[int, int] = {}
    if former and alone:
        # The first of each entity.
        ids = [member.record_id for member in alone]
        found = (
            free_entities(connection, tables, former, ids)
            if isinstance(former, RunTables)
            else {record: former[record] for record in ids if record in former}
        )
        first = {entity: record for record, entity in sorted(found.items(), reverse=True)}
        free = {record: entity for entity, record in first.items()}
    without = [member for member in alone if member.record_id not in free]
    more = connection.run(f"SELECT nextval('entity_id') FROM generate_series(1, {len(without)})")
    entity_of = free | {member.record_id: entity for member, [entity] in zip(without, more, strict=True)}
    for member in new:
        if member.joins:
            # An earlier member of this batch has its entity by now.
            entity_of[member.record_id] = member.joins.entity_id or entity_of[member.joins.record_id]
        member.entity_id = entity_of[member.record_id]


def free_entities(
    connection: Connection, tables: RunTables, former: RunTables, record_ids: Sequence[int]
) -> dict[int, int]:
    """The entity that each record has in the run `former`, if no member of `tables` is in it."""
    rows = connection.run(
        f"""SELECT f.record_id, f.entity_id FROM {former.member} f WHERE f.record_id = ANY ({bigints(record_ids)})
            AND NOT EXISTS (SELECT FROM {tables.member} m WHERE m.entity_id = f.entity_id)"""
    )
    return dict(rows)


def _refresh_statistics(connection: Connection, tables: RunTables) -> None:
    """Analyses the members if many were added since that was done last: with statistics of a table that had one record,
    or a thousand of one name, the wrong index is read for each new record."""
    [[grown]] = connection.run(
        f"""SELECT pg_relation_size(oid) / current_setting('block_size')::int > 2 * relpages + {GROWN}
            FROM pg_class WHERE oid = '{tables.member}'::regclass"""
    )
    if grown:
        # Another upload that holds the lock does the same.
        connection.run(f"ANALYZE (SKIP_LOCKED) {tables.member}")


def _first_duplicates(
    connection: Connection,
    tables: RunTables,
    new: Sequence[NewMember],
    columns: Sequence[str],
) -> dict[Values, _Match]:
    """By the values of some columns and the content of a new member: the first representative that has the same."""
    compared = (*columns, *normalise.CONTENT)
    asked: dict[Values, NewMember] = {}
    for member in new:
        asked.setdefault(member.values(compared), member)
    if not asked:
        return {}
    rows = [
        {"record_id": member.record_id, **dict(zip(compared, values, strict=True))} for values, member in asked.items()
    ]
    same = " AND ".join([f"{values_hash('m')} = {values_hash('i')}", *(f"m.{name} = i.{name}" for name in columns)])
    found = connection.run(
        f"""SELECT i.record_id, f.record_id, f.entity_id
            FROM json_populate_recordset(NULL::{tables.member}, {_json(rows)}) AS i CROSS JOIN LATERAL (
                SELECT record_id, entity_id FROM {tables.member} m
                WHERE {same} AND {normalised_values("m")} IS NOT DISTINCT FROM {normalised_values("i")}
                    AND {is_representative("m")}
                ORDER BY record_id LIMIT 1
            ) AS f"""
    )
    values_of = {member.record_id: values for values, member in asked.items()}
    return {values_of[record]: _Match(other, entity) for record, other, entity in found}


def _join_exact_duplicates(
    connection: Connection, tables: RunTables, new: Sequence[NewMember], rule: str
) -> list[_Edge]:
    """Joins members to an earlier exact duplicate of the same source and customer, and removes their normalised values.
    Returns the edges, by the rule of that name."""
    first = _first_duplicates(connection, tables, new, IDENTITY)
    edges = []
    for member in new:
        values = (*member.customer, *member.content)
        match = first.setdefault(values, _Match(member.record_id))
        if match.record_id == member.record_id:
            continue
        member.joins = match
        edges.append((match.record_id, member.record_id, rule))
        member.columns |= dict.fromkeys(normalise.COLUMNS)
    return edges


@dataclass(frozen=True)
class _Sharing:
    """The members that share what a rule asks for."""

    contents: int = 0
    """How many different contents they have."""
    customers: frozenset[Values] | None = frozenset()
    """Their sources and customers; None if these are more than the contents."""
    firsts: Sequence[tuple[Mapping[str, Any], _Match]] = ()
    """The first of those that agree in the columns that the rule compares, with these columns. Empty if they are too
    many people."""

    def people_beside(self, customer: Values) -> int:
        """How many people other than a customer they can be at most."""
        return self.contents if self.customers is None else min(self.contents, len(self.customers - {customer}))

    def first_joined(self, member: NewMember, rule: Rule) -> _Match | None:
        """The first record that a rule joins with a member."""
        joined = (match for columns, match in self.firsts if not rule.differs(columns, member.columns))
        return min(joined, key=lambda match: match.record_id, default=None)


class _SharingInBatch:
    """The members of one batch that share what a rule asks for."""

    def __init__(self) -> None:
        self.members: list[NewMember] = []
        self.customers: set[Values] = set()
        self.first: dict[Values, _Match] = {}
        """The first record of each content."""

    def add(self, member: NewMember) -> None:
        """Adds one more."""
        self.members.append(member)
        self.customers.add(member.customer)
        self.first.setdefault(member.content, _Match(member.record_id))

    def people_beside(self, customer: Values) -> int:
        """How many people other than a customer they can be at most."""
        return min(len(self.customers) - (customer in self.customers), len(self.first))

    def first_joined(self, member: NewMember, rule: Rule) -> _Match | None:
        """The first record that a rule joins with a member."""
        joined = (other for other in self.members if not rule.differs(other.columns, member.columns))
        other = next(joined, None)
        return _Match(other.record_id) if other else None


_Shared = tuple[int, Values]
"""The position of a rule, and the values of the columns that it asks to be equal."""


def _shared_keys(member: NewMember, settings: RuleSettings) -> list[_Shared]:
    keys = ((position, rule.key(member.columns)) for position, rule in enumerate(settings.rules))
    return [(position, key) for position, key in keys if key is not None]


def _members_sharing(
    connection: Connection, tables: RunTables, keys: Iterable[_Shared], settings: RuleSettings
) -> dict[_Shared, _Sharing]:
    """The members that share what a rule asks for: read once, however many new members share it."""
    order = list(keys)
    scans = []
    for position, rule in enumerate(settings.rules):
        asked = [
            {"n": n, **dict(zip(rule.equal, key, strict=True))} for n, (at, key) in enumerate(order) if at == position
        ]
        if asked:
            scans.append(_sharing_query(tables, rule, asked, settings.max_people))
    if not scans:
        return {}
    return {
        order[n]: _Sharing(
            contents,
            None if customers is None else frozenset(map(tuple, customers)),
            [
                (dict(zip(settings.rules[order[n][0]].unless_different, values, strict=True)), _Match(record, entity))
                for values, record, entity in firsts or ()
            ],
        )
        for n, contents, customers, firsts in connection.run(" UNION ALL ".join(scans))
    }


def _sharing_query(tables: RunTables, rule: Rule, asked: Sequence[Mapping[str, Any]], most: int) -> str:
    """A query for the columns of _Sharing, by the `n` of what is asked for."""
    kinds = ", ".join(f"{column} {'bigint' if column == 'source' else 'text'}" for column in rule.equal)
    compared = ", ".join(rule.unless_different)
    people = "count(DISTINCT (source, customer_id))"
    return f"""
        SELECT i.n, a.contents, a.customers, a.firsts
        FROM json_to_recordset({_json(asked)}) AS i (n bigint, {kinds}) CROSS JOIN LATERAL (
            WITH sharing AS MATERIALIZED (
                SELECT *, {values_hash("m")} AS values_hash FROM {tables.member} m
                WHERE {" AND ".join(f"m.{column} = i.{column}" for column in rule.equal)} AND {is_representative("m")}
                LIMIT {SHARING}
            )
            SELECT count(DISTINCT values_hash) AS contents,
                CASE WHEN {people} <= least(count(DISTINCT values_hash), {most})
                    THEN json_agg(DISTINCT jsonb_build_array({", ".join(IDENTITY)})) END AS customers,
                CASE WHEN least({people}, count(DISTINCT values_hash)) <= {most} THEN (
                    SELECT json_agg(json_build_array(json_build_array({compared}), first[1], first[2])) FROM (
                        SELECT {compared + ", " if compared else ""}min(ARRAY[record_id, entity_id]) AS first
                        FROM sharing {f"GROUP BY {compared}" if compared else ""}) AS f
                ) END AS firsts
            FROM sharing
        ) AS a WHERE a.contents > 0"""


def _duplicates_in_crowds(
    connection: Connection,
    tables: RunTables,
    keys: Mapping[_Shared, Sequence[NewMember]],
    sharing: Mapping[_Shared, _Sharing],
    settings: RuleSettings,
) -> dict[tuple[int, int], _Match]:
    """By record and position of a rule: the first exact duplicate, where so many people may share what the rule asks
    for that it joins nobody else."""
    found: dict[tuple[int, int], _Match] = {}
    wanted: defaultdict[tuple[str, ...], list[tuple[int, NewMember]]] = defaultdict(list)
    for (position, key), new in keys.items():
        known = sharing.get((position, key))
        if known and known.contents + len(new) >= settings.max_people:
            identity = tuple(column for column in IDENTITY if column in settings.rules[position].equal)
            wanted[identity] += ((position, member) for member in new)
    for columns, asked in wanted.items():
        first = _first_duplicates(connection, tables, [member for _, member in asked], columns)
        for position, member in asked:
            match = first.get(member.values((*columns, *normalise.CONTENT)))
            if match:
                found[member.record_id, position] = match
    return found


def _join_by_rules(
    connection: Connection, tables: RunTables, new: Sequence[NewMember], settings: RuleSettings
) -> list[_Edge]:
    """Joins each member to the record that the first matching rule finds, in the database or earlier in the batch;
    returns the edges. If `max_people` or more share what a rule asks for, it joins only exact duplicates."""
    keys: defaultdict[_Shared, list[NewMember]] = defaultdict(list)
    for member in new:
        for shared in _shared_keys(member, settings):
            keys[shared].append(member)
    sharing = _members_sharing(connection, tables, keys, settings)
    duplicates = _duplicates_in_crowds(connection, tables, keys, sharing, settings)
    edges = []
    batch: defaultdict[_Shared, _SharingInBatch] = defaultdict(_SharingInBatch)
    for member in new:
        shared_keys = _shared_keys(member, settings)
        for position, key in shared_keys:
            rule, known, earlier = (
                settings.rules[position],
                sharing.get((position, key), _Sharing()),
                batch[position, key],
            )
            match = duplicates.get((member.record_id, position))
            in_batch = earlier.first.get(member.content)
            people = known.people_beside(member.customer) + earlier.people_beside(member.customer)
            if people < settings.max_people:
                match = known.first_joined(member, rule)
                in_batch = in_batch or earlier.first_joined(member, rule)
            member.joins = match or in_batch
            if member.joins:
                edges.append((member.joins.record_id, member.record_id, rule.name))
                break
        for shared in shared_keys:
            batch[shared].add(member)
    return edges


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return text(json.dumps(rows))
