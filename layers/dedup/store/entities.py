"""The entities of a run, kept in step with the records: what an upload adds is joined by the rules, in its own
transaction; what leaves the records leaves the entities with them.

A run's tables are made by it, in the schema matching, with its number in their names. Who changes those of the active
run, or drops any, shares _LOCK; who activates another run, decides, takes records away, or takes somebody out of
every run has it alone. It is the last of the locks that anybody takes."""

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from pg8000.native import Connection

from dedup.errors import NoRun
from dedup.matching import normalise
from dedup.matching.rules import (
    IDENTITY,
    Rule,
    content_rules,
    conventions_of,
    identity_rule,
    index_columns,
    rules_of,
    term_columns,
)
from dedup.store.base import BY_REGION, NO_CHANGES, Counted, bigints, count_changes, text

_LOCK = 7236839
SHARED = f"pg_advisory_xact_lock_shared({_LOCK})"
ALONE = f"pg_advisory_xact_lock({_LOCK})"
TRY = f"pg_try_advisory_xact_lock_shared({_LOCK})"

BATCH = 2_000
"""Records that are normalised and matched by one statement."""

SHARE = 50
"""The part of all members up to which what leaves is looked at one by one, and not all that stays."""

UPLOADS = 100
"""Pending uploads that are looked at together."""

WINDOW = 100_000
"""Record ids that are read at a time, so that what follows is looked for among so many."""

MEMBER_COLUMNS = ("record_id", "entity_id", *IDENTITY, *normalise.COLUMNS)
"""The columns of a run's members: whose record it is, and its comparable form.

A member that says the same as an earlier one of the same customer of the same source repeats it: it has no form of its
own, so that no limit counts it, and goes where that one goes, from which its edge leads to it."""

ALIKE = 200
"""Records that share what a rule asks for, among which it is counted how many people they are."""

GROWN = 8
"""Pages beyond twice those that the planner knows of, from which on it is told anew of the members."""


def _form(member: str, *identity: str) -> str:
    return f"({', '.join(f'{member}.{column}' for column in (*identity, *normalise.SAID))})"


def _whole(member: str) -> str:
    return _form(member, *IDENTITY)


def says(member: str, rules: Sequence[Rule]) -> str:
    """In SQL, the earliest of the members in a query that says the same as one, where a rule joins those; else its own
    record."""
    holds = (" AND ".join(f"{member}.{column} IS NOT NULL" for column in rule.equal) for rule in content_rules(rules))
    return f"""CASE WHEN {" OR ".join(f"({one})" for one in holds) or "false"}
        THEN min({member}.record_id) OVER (PARTITION BY {_form(member)}) ELSE {member}.record_id END"""


def stands(member: str) -> str:
    """The condition in SQL that a member repeats no other."""
    return f"NOT {_form(member)} IS NULL"


def _digest(member: str) -> str:
    """In SQL, a number of 64 bits that members have in common which say the same: what an index can find."""
    return f"hash_record_extended({_form(member)}, 0)"


@dataclass(frozen=True)
class Tables:
    """The names of a run's tables."""

    run: int

    @property
    def member(self) -> str:
        """Every record that the run knows, with the entity that it belongs to."""
        return f"matching.member_{self.run}"

    @property
    def edge(self) -> str:
        """Why two records may be one."""
        return f"matching.edge_{self.run}"

    @property
    def review(self) -> str:
        """Pairs that a person should look at."""
        return f"matching.review_{self.run}"

    @property
    def term(self) -> str:
        """How many records have a value, where several do; and, with no value, how many have any."""
        return f"matching.term_{self.run}"

    @property
    def counted(self) -> Counted:
        """Which sources have an entity, and the changes of their regions."""
        return Counted(f"matching.membership_{self.run}", f"matching.change_{self.run}", "entity_id")

    @property
    def all(self) -> tuple[str, ...]:
        """All of them."""
        return self.member, self.edge, self.review, self.term, self.counted.table, self.counted.changes

    def create(self, connection: Connection) -> None:
        """Makes them, empty and without indexes."""
        forms = ", ".join(f"{column} text" for column in normalise.COLUMNS)
        connection.run(
            f"""CREATE TABLE {self.member} (
                record_id bigint NOT NULL, entity_id bigint NOT NULL, source smallint NOT NULL,
                customer_id bigint NOT NULL, {forms})"""
        )
        connection.run(
            f"""CREATE TABLE {self.edge} (
                record_a bigint NOT NULL, record_b bigint NOT NULL, rule text, weight double precision,
                probability double precision, waterfall text, joins boolean NOT NULL)"""
        )
        connection.run(
            f"""CREATE TABLE {self.review} (
                record_a bigint NOT NULL, record_b bigint NOT NULL, weight double precision,
                probability double precision, waterfall text, constraint_name text,
                uncertainty double precision NOT NULL)"""
        )
        connection.run(f"CREATE TABLE {self.term} (field text NOT NULL, value text, records bigint NOT NULL)")
        connection.run(
            f"""CREATE TABLE {self.counted.table} (
                entity_id bigint PRIMARY KEY, sources bigint NOT NULL, previous bigint NOT NULL DEFAULT 0,
                records bigint NOT NULL)"""
        )
        connection.run(
            f"""CREATE TABLE {self.counted.changes} (
                    sources bigint NOT NULL, customers bigint NOT NULL, records bigint NOT NULL
                ) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0)"""
        )

    def index(self, connection: Connection, settings: Mapping[str, Any]) -> None:
        """Gives the tables their indexes, and the planner its statistics."""
        connection.run(
            f"""ALTER TABLE {self.member} ADD PRIMARY KEY (record_id);
                CREATE INDEX ON {self.member} (entity_id); CREATE INDEX ON {self.member} (customer_id)"""
        )
        # Of those that stand for themselves alone: the others are as many as uploads may repeat somebody.
        known = [columns for columns in index_columns(settings) if columns != IDENTITY]
        known += [(_digest(self.member), "record_id"), (*IDENTITY, _digest(self.member))]
        connection.run(
            "; ".join(
                f"CREATE INDEX ON {self.member} ({', '.join(columns)}) WHERE {stands(self.member)}" for columns in known
            )
        )
        connection.run(
            f"""CREATE INDEX ON {self.edge} (record_a); CREATE INDEX ON {self.edge} (record_b);
                CREATE INDEX ON {self.review} (record_a); CREATE INDEX ON {self.review} (record_b);
                CREATE INDEX ON {self.review} (uncertainty DESC, record_a, record_b);
                CREATE INDEX ON {self.term} (field, value);
                CREATE INDEX ON {self.counted.table} (sources, entity_id);
                CREATE INDEX ON {self.counted.table} (entity_id) WHERE records > 1"""
        )
        connection.run(f"ANALYZE {', '.join(self.all)}")

    def drop(self, connection: Connection) -> None:
        """Drops them, those that are there."""
        connection.run(f"DROP TABLE IF EXISTS {', '.join(self.all)}")


def active_run(connection: Connection, lock: str = "") -> Tables | None:
    """The tables of the active run; with a lock, until the end of the transaction. None before the first."""
    if lock:
        # On its own: a statement sees what was committed before it began, and not what it waited for.
        connection.run(f"SELECT {lock}")
    [[run]] = connection.run("SELECT active_run FROM match_state")
    return Tables(run) if run else None


def require_active_run(connection: Connection) -> Tables:
    """The tables of the active run. Raises NoRun."""
    tables = active_run(connection)
    if not tables:
        raise NoRun("No run of the matching was finished yet: begin one with POST /api/v1/matching/runs")
    return tables


def settings_of(connection: Connection, tables: Tables) -> Mapping[str, Any]:
    """The settings of a run."""
    told: Mapping[str, Any] = json.loads(_settings_text(connection, tables))
    return told


def _settings_text(connection: Connection, tables: Tables) -> str:
    [[settings]] = connection.run(f"SELECT settings::text FROM match_run WHERE id = {tables.run}")
    return str(settings)


def entities_of(connection: Connection, tables: Tables, record_ids: Sequence[int]) -> dict[int, int]:
    """The entity of each record, of those that a run knows."""
    rows = connection.run(
        f"SELECT record_id, entity_id FROM {tables.member} WHERE record_id = ANY ({bigints(record_ids)})"
    )
    return dict(rows)


@dataclass(frozen=True)
class _Told:
    """What a run's settings say of records that come."""

    rules: tuple[Rule, ...]
    conventions: normalise.Conventions
    most: int
    """People who may share what a rule asks for."""
    repeats: str | None
    """The rule by which records that say the same are one; None where they are not."""


@lru_cache(maxsize=8)
def _told(text_of_settings: str) -> _Told:
    settings = json.loads(text_of_settings)
    rules = rules_of(settings)
    identity = identity_rule(rules)
    most = int(settings["constraints"]["max_rule_block"])
    return _Told(rules, conventions_of(settings), most, identity.name if identity else None)


# Records that come


def attach(connection: Connection, upload_id: int, *, wait: bool = True, replaces: bool = False) -> None:
    """Makes the records of an upload members of the active run, nothing where none is; where it may not `wait` for
    whoever changes many, they are pending. `replaces`: all earlier records of its source leave in this transaction."""
    if not wait:
        connection.run(f"INSERT INTO deferred_match VALUES ({upload_id})")
        return
    tables = active_run(connection, SHARED)
    if tables:
        attach_records(connection, tables, f"r.upload_id = {upload_id}", replaces=replaces)


def pending(connection: Connection) -> list[int]:
    """Uploads that are pending, with about BATCH records in all; nobody else gets them until the end of the
    transaction."""
    rows = connection.run(
        f"""SELECT p.upload_id, coalesce(u.accepted, 0) FROM deferred_match p LEFT JOIN upload u ON u.id = p.upload_id
            ORDER BY p.upload_id LIMIT {UPLOADS} FOR UPDATE OF p SKIP LOCKED"""
    )
    before = accumulate((accepted for _, accepted in rows), initial=0)
    return [upload for (upload, _), records in zip(rows, before, strict=False) if records < BATCH]


def attach_uploads(connection: Connection, uploads: Sequence[int]) -> Tables | None:
    """Makes members of the records of uploads that are pending; the tables of the active run, if there is one. The
    caller has the lock."""
    connection.run(f"DELETE FROM deferred_match WHERE upload_id = ANY ({bigints(uploads)})")
    tables = active_run(connection)
    if tables:
        _attach_missing(connection, tables, f"r.upload_id = ANY ({bigints(uploads)})")
    return tables


def attach_records(
    connection: Connection, tables: Tables, chosen: str, former: Tables | None = None, *, replaces: bool = False
) -> None:
    """Makes records, a condition on the record r, members of a run: each joins the entity of the earliest record that
    the strongest rule says it is one with, or is an entity of its own, of the id that it has in `former` where that is
    free. It joins no two entities: the next run does. `replaces`: the earlier records of their source leave next."""
    told = _told(_settings_text(connection, tables))
    added = array("q")
    for ids in _batches(connection, chosen):
        added.extend(ids)
        _attach_batch(connection, tables, ids, told, former, leaving=added[0] if replaces else 0)
    # At the end and in order of their ids, so that two uploads wait for one another in one direction only.
    if added:
        _count_members(connection, tables, added)


def _batches(connection: Connection, chosen: str) -> Iterator[list[int]]:
    """The ids of the records that are chosen, in order, so many at a time. By windows of ids: to look through all of an
    upload for each batch takes the square of its time."""

    def first(begin: int) -> int | None:
        # OFFSET 0: or else the planner walks along all ids from the first on, to the first that is chosen.
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
        yield from (ids[place : place + BATCH] for place in range(0, len(ids), BATCH))
        begin = end if ids else first(end)


def _attach_batch(
    connection: Connection, tables: Tables, ids: Sequence[int], told: _Told, former: Tables | None, leaving: int
) -> None:
    _tell_planner(connection, tables)
    fields = ", ".join(f"r.{field}" for field in normalise.FIELDS)
    rows = connection.run(
        f"""SELECT r.id, r.source, r.customer_id, {fields} FROM record r
            WHERE r.id = ANY ({bigints(ids)}) ORDER BY r.id"""
    )
    members = [
        {
            "record_id": record_id,
            "entity_id": 0,
            "source": source,
            "customer_id": customer_id,
            **normalise.record(dict(zip(normalise.FIELDS, values, strict=True)), told.conventions),
        }
        for record_id, source, customer_id, *values in rows
    ]
    edges = _repeat(connection, tables, members, told, leaving) if told.repeats else []
    edges += _join(connection, tables, [member for member in members if not member["entity_id"]], told)
    _found_entities(connection, tables, [member for member in members if not member["entity_id"]], former)
    entity_of = {member["record_id"]: member["entity_id"] for member in members}
    for member in members:
        if member["entity_id"] < 0:
            # As the earlier one of this batch, which may itself have followed another.
            member["entity_id"] = entity_of[member["record_id"]] = entity_of[-member["entity_id"]]
    connection.run(
        f"INSERT INTO {tables.member} SELECT * FROM json_populate_recordset(NULL::{tables.member}, {_json(members)})"
    )
    if edges:
        connection.run(
            f"""INSERT INTO {tables.edge} (record_a, record_b, rule, joins)
                VALUES {", ".join(f"({a}, {b}, {text(rule)}, true)" for a, b, rule in edges)}"""
        )


def _found_entities(
    connection: Connection, tables: Tables, alone: Sequence[dict[str, Any]], former: Tables | None
) -> None:
    """Gives members that are nobody else an entity each: that of `former` where it is free, or a new one."""
    free: dict[int, int] = {}
    if former and alone:
        # The first of each entity.
        there = free_entities(connection, tables, former, [member["record_id"] for member in alone])
        first = {entity: record for record, entity in sorted(there.items(), reverse=True)}
        free = {record: entity for entity, record in first.items()}
    new = [member for member in alone if member["record_id"] not in free]
    for member in alone:
        member["entity_id"] = free.get(member["record_id"], 0)
    ids = connection.run(f"SELECT nextval('entity_id') FROM generate_series(1, {len(new)})")
    for member, [entity_id] in zip(new, ids, strict=True):
        member["entity_id"] = entity_id


def free_entities(connection: Connection, tables: Tables, former: Tables, record_ids: Sequence[int]) -> dict[int, int]:
    """The entity that each record has in another run, of those that no member of a run is of."""
    rows = connection.run(
        f"""SELECT f.record_id, f.entity_id FROM {former.member} f WHERE f.record_id = ANY ({bigints(record_ids)})
            AND NOT EXISTS (SELECT FROM {tables.member} m WHERE m.entity_id = f.entity_id)"""
    )
    return dict(rows)


def _tell_planner(connection: Connection, tables: Tables) -> None:
    """Renews the statistics of members where many came since they were made: by such as are of a table that had one
    record, or a thousand of one name, the wrong index is read for each record that comes."""
    [[grown]] = connection.run(
        f"""SELECT pg_relation_size(oid) / current_setting('block_size')::int > 2 * relpages + {GROWN}
            FROM pg_class WHERE oid = '{tables.member}'::regclass"""
    )
    if grown:
        # Who else is at it does the same.
        connection.run(f"ANALYZE (SKIP_LOCKED) {tables.member}")


def _values(member: Mapping[str, Any], columns: Iterable[str]) -> tuple[Any, ...]:
    return tuple(member[column] for column in columns)


def _first_that_says(
    connection: Connection, tables: Tables, members: Sequence[Mapping[str, Any]], columns: Sequence[str], leaving: int
) -> dict[tuple[Any, ...], tuple[int, int]]:
    """By some columns and what a member-to-be says: the earliest member that has the same, and its entity. One of a
    lower id than `leaving` only where there is no other."""
    compared = (*columns, *normalise.SAID)
    asked: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for member in members:
        asked.setdefault(_values(member, compared), member)
    if not asked:
        return {}
    forms = [{column: member[column] for column in ("record_id", *compared)} for member in asked.values()]
    same = " AND ".join([f"{_digest('m')} = {_digest('i')}", *(f"m.{column} = i.{column}" for column in columns)])
    order = f"record_id < {leaving}, record_id" if leaving else "record_id"
    rows = connection.run(
        f"""SELECT i.record_id, f.record_id, f.entity_id
            FROM json_populate_recordset(NULL::{tables.member}, {_json(forms)}) AS i CROSS JOIN LATERAL (
                SELECT record_id, entity_id FROM {tables.member} m
                WHERE {same} AND {_form("m")} IS NOT DISTINCT FROM {_form("i")} AND {stands("m")}
                ORDER BY {order} LIMIT 1
            ) AS f"""
    )
    key_of = {member["record_id"]: key for key, member in asked.items()}
    return {key_of[record]: (other, entity) for record, other, entity in rows}


def _repeat(
    connection: Connection, tables: Tables, members: Sequence[dict[str, Any]], told: _Told, leaving: int
) -> list[tuple[int, int, str]]:
    """Gives members that say the same as an earlier one of the same customer of the same source its entity, or minus
    the record id of one of the same batch, and takes their form from them. The edges, with the rule's name.

    `leaving`: what has a lower id leaves next. Who repeats that stands for itself at once: to give it its form
    afterwards changes every index once more."""
    there = _first_that_says(connection, tables, members, IDENTITY, leaving)
    edges = []
    for member in members:
        whole = _values(member, (*IDENTITY, *normalise.SAID))
        near, entity = there.setdefault(whole, (member["record_id"], 0))
        if near == member["record_id"]:
            continue
        member["entity_id"] = entity or -near
        edges.append((near, member["record_id"], told.repeats or ""))
        if near < leaving:
            there[whole] = (member["record_id"], 0)
        else:
            member |= dict.fromkeys(normalise.COLUMNS)
    return edges


@dataclass(frozen=True)
class _There:
    """The members that share what a rule asks for."""

    forms: int = 0
    """As many different things they say."""
    customers: frozenset[tuple[Any, ...]] | None = frozenset()
    """Whose they are; None where that is more than there are forms."""
    firsts: Sequence[tuple[Mapping[str, Any], tuple[int, int]]] = ()
    """Of those that have the same of what the rule minds, the first and its entity; none where they are too many
    people."""

    def people_beside(self, customer: tuple[Any, ...]) -> int:
        """How many people other than a customer they may be at most."""
        return self.forms if self.customers is None else min(self.forms, len(self.customers - {customer}))

    def first_joined(self, member: Mapping[str, Any], rule: Rule) -> tuple[int, int]:
        """The first record that a rule joins a member with, and its entity; 0 for none."""
        return min((first for form, first in self.firsts if not rule.differs(form, member)), default=(0, 0))


class _Alike:
    """Members of one batch that share what a rule asks for."""

    def __init__(self) -> None:
        self.members: list[Mapping[str, Any]] = []
        self.customers: set[tuple[Any, ...]] = set()
        self.first: dict[tuple[Any, ...], int] = {}
        """The first record that says something, by what it says."""

    def add(self, member: Mapping[str, Any], customer: tuple[Any, ...], said: tuple[Any, ...]) -> None:
        """Takes one more."""
        self.members.append(member)
        self.customers.add(customer)
        self.first.setdefault(said, member["record_id"])

    def people_beside(self, customer: tuple[Any, ...]) -> int:
        """How many people other than a customer they may be at most."""
        return min(len(self.customers) - (customer in self.customers), len(self.first))

    def first_joined(self, member: Mapping[str, Any], rule: Rule) -> int:
        """The first record that a rule joins a member with; 0 for none."""
        return next((one["record_id"] for one in self.members if not rule.differs(one, member)), 0)


_Keys = Mapping[tuple[int, tuple[Any, ...]], Sequence[Mapping[str, Any]]]
"""By the place of a rule and what it asks for, the members-to-be that have that."""


def _already_there(
    connection: Connection, tables: Tables, keys: _Keys, told: _Told
) -> dict[tuple[int, tuple[Any, ...]], _There]:
    """The members that are there and share what a rule asks for, by its place and that: looked for once, however many
    members-to-be have it."""
    scans = []
    for place, rule in enumerate(told.rules):
        asked = [{"n": n, **dict(zip(rule.equal, key, strict=True))} for n, (at, key) in enumerate(keys) if at == place]
        if asked:
            scans.append(_members_alike(tables, rule, place, asked, told.most))
    if not scans:
        return {}
    order = list(keys)
    return {
        order[n]: _There(
            forms,
            None if customers is None else frozenset(map(tuple, customers)),
            [
                (dict(zip(told.rules[order[n][0]].unless_different, values, strict=True)), (record, entity))
                for values, record, entity in firsts or ()
            ],
        )
        for n, forms, customers, firsts in connection.run(" UNION ALL ".join(scans))
    }


def _members_alike(tables: Tables, rule: Rule, place: int, asked: Sequence[Mapping[str, Any]], most: int) -> str:
    """A query for the columns of _There, by the `n` of what is asked for."""
    kinds = ", ".join(f"{column} {'bigint' if column in IDENTITY else 'text'}" for column in rule.equal)
    minded = ", ".join(rule.unless_different)
    people = "count(DISTINCT (source, customer_id))"
    return f"""
        SELECT i.n, a.forms, a.customers, a.firsts
        FROM json_to_recordset({_json(asked)}) AS i (n bigint, {kinds}) CROSS JOIN LATERAL (
            WITH alike AS MATERIALIZED (
                SELECT *, {_digest("m")} AS said FROM {tables.member} m
                WHERE {" AND ".join(f"m.{column} = i.{column}" for column in rule.equal)} AND {stands("m")}
                LIMIT {ALIKE}
            )
            SELECT count(DISTINCT said) AS forms,
                CASE WHEN {people} <= least(count(DISTINCT said), {most})
                    THEN json_agg(DISTINCT jsonb_build_array({", ".join(IDENTITY)})) END AS customers,
                CASE WHEN least({people}, count(DISTINCT said)) <= {most} THEN (
                    SELECT json_agg(json_build_array(json_build_array({minded}), first[1], first[2])) FROM (
                        SELECT {minded + ", " if minded else ""}min(ARRAY[record_id, entity_id]) AS first FROM alike
                        {f"GROUP BY {minded}" if minded else ""}) AS f
                ) END AS firsts
            FROM alike
        ) AS a WHERE a.forms > 0"""


def _say_the_same(
    connection: Connection,
    tables: Tables,
    keys: _Keys,
    there: Mapping[tuple[int, tuple[Any, ...]], _There],
    told: _Told,
) -> dict[tuple[int, int], tuple[int, int]]:
    """By record and place of a rule: the earliest member that says the same, and its entity, where so many people may
    share what the rule asks for that it says nothing of others."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    wanted: defaultdict[tuple[str, ...], list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for (place, key), members in keys.items():
        near = there.get((place, key))
        if near and near.forms + len(members) >= told.most:
            identity = tuple(column for column in IDENTITY if column in told.rules[place].equal)
            wanted[identity] += ((place, member) for member in members)
    for columns, asked in wanted.items():
        first = _first_that_says(connection, tables, [member for _, member in asked], columns, 0)
        for place, member in asked:
            same = first.get(_values(member, (*columns, *normalise.SAID)))
            if same:
                found[member["record_id"], place] = same
    return found


def _join(
    connection: Connection, tables: Tables, members: Sequence[dict[str, Any]], told: _Told
) -> list[tuple[int, int, str]]:
    """Gives each member the entity that it joins by a rule: an entity's id, minus the record id of an earlier member of
    the same batch, or 0 for none. The edges, with the rule's name. Of what `most` people share a rule says nothing, but
    of who says the same."""
    keys: defaultdict[tuple[int, tuple[Any, ...]], list[Mapping[str, Any]]] = defaultdict(list)
    for member in members:
        for place, rule in enumerate(told.rules):
            key = rule.key(member)
            if key is not None:
                keys[place, key].append(member)
    there = _already_there(connection, tables, keys, told)
    same = _say_the_same(connection, tables, keys, there, told)
    edges = []
    seen: defaultdict[tuple[int, Any], _Alike] = defaultdict(_Alike)
    for member in members:
        customer, said = _values(member, IDENTITY), _values(member, normalise.SAID)
        shared = [(place, key) for place, rule in enumerate(told.rules) if (key := rule.key(member)) is not None]
        for place, key in shared:
            if member["entity_id"]:
                break
            rule, near, earlier = told.rules[place], there.get((place, key), _There()), seen[place, key]
            first = same.get((member["record_id"], place), (0, 0))
            record = earlier.first.get(said, 0)
            if near.people_beside(customer) + earlier.people_beside(customer) < told.most:
                first = near.first_joined(member, rule)
                record = record or earlier.first_joined(member, rule)
            if first[0] or record:
                member["entity_id"] = first[1] or -record
                edges.append((first[0] or record, member["record_id"], rule.name))
        for place, key in shared:
            seen[place, key].add(member, customer, said)
    return edges


def _count_members(connection: Connection, tables: Tables, records: Iterable[int]) -> None:
    """Adds members that are new to membership and counts."""
    added = "SELECT 1::bigint << source, 0, count(*) FROM came GROUP BY source"
    connection.run(
        f"""WITH came AS MATERIALIZED (
            SELECT entity_id, source FROM {tables.member} WHERE record_id = ANY ({bigints(records)})
        ), {_gain("came", tables)}, {count_changes(added, tables.counted)} SELECT"""
    )


def _gain(members: str, tables: Tables) -> str:
    """The part of a WITH by which entities gain `members`, what follows FROM in a query for them, and `changed` for
    count_changes()."""
    return f"""changed AS (
            INSERT INTO {tables.counted.table} AS m (entity_id, sources, records)
            SELECT entity_id, bit_or(1::bigint << source), count(*) FROM {members} GROUP BY entity_id ORDER BY entity_id
            ON CONFLICT (entity_id) DO UPDATE SET previous = m.sources, sources = m.sources | excluded.sources,
                records = m.records + excluded.records
            RETURNING sources, previous
        )"""


# Records that go


def detach(connection: Connection, leaving: str) -> None:
    """Takes the records for which `leaving` holds, a condition on the columns of record, out of the active run.
    Before they are deleted, and alone: until the commit no upload comes between."""
    tables = active_run(connection, ALONE)
    connection.run("UPDATE match_state SET removals = removals + 1")
    if tables:
        detach_members(connection, tables, f"record_id IN (SELECT id FROM record WHERE {leaving})")


def detach_members(connection: Connection, tables: Tables, leaving: str) -> None:
    """Takes members out of a run's entities: those for which a condition holds. Where a record of the same source and
    customer stays in the entity, what joined the one that leaves joins that one, until the next run looks again.

    Everything from here on names the records and their entities as constant arrays, and joins nothing to them: their
    time is linear whatever the planner knows of the tables, which is little after a large upload or a clear."""
    rows = connection.run(f"SELECT record_id, entity_id FROM {tables.member} WHERE {leaving}")
    if not rows:
        return
    ids = [record for record, _ in rows]
    gone, entities = bigints(ids), bigints({entity for _, entity in rows})
    [[members]] = connection.run(f"SELECT reltuples::bigint FROM pg_class WHERE oid = '{tables.member}'::regclass")
    few = len(ids) <= max(BATCH, members // SHARE)
    fields = term_columns(settings_of(connection, tables))
    _reassign(connection, tables, ids, entities)
    if fields and few:
        _forget_values(connection, tables, gone, fields)
    for pairs in (tables.edge, tables.review):
        for side in ("record_a", "record_b"):
            connection.run(f"DELETE FROM {pairs} WHERE {side} = ANY ({gone})")
    counted = tables.counted
    removed = "SELECT 1::bigint << source, 0, -count(*) FROM gone GROUP BY source"
    connection.run(
        f"""WITH gone AS (
            DELETE FROM {tables.member} WHERE record_id = ANY ({gone}) RETURNING source
        ), {_lose(tables, gone, entities)}, {count_changes(removed, counted)} SELECT"""
    )
    connection.run(f"DELETE FROM {counted.table} WHERE sources = 0")
    if fields and not few:
        _forget_all_values(connection, tables, fields)


def _reassign(connection: Connection, tables: Tables, ids: Sequence[int], entities: str) -> None:
    """Puts into the edges and the review, in place of members that leave, those that stay and take their place: the
    first of those that repeat it, or else one of the same source and customer. `entities`: those of the members that
    leave, as an array."""
    gone = bigints(ids)
    # What an edge leads to first, and only then what it leads from: or else the planner, who takes both for few, looks
    # at every two members before it looks at an edge.
    found = connection.run(
        f"""WITH near AS MATERIALIZED (
                SELECT e.record_a AS gone, m.*, {stands("m")} AS stands
                FROM {tables.edge} e JOIN {tables.member} m ON m.record_id = e.record_b
                WHERE e.record_a = ANY ({gone}) AND e.record_b <> ALL ({gone})
            )
            SELECT near.gone, min(near.record_id) FROM near
            JOIN {tables.member} g ON g.record_id = near.gone
            WHERE NOT near.stands OR {_whole("near")} IS NOT DISTINCT FROM {_whole("g")} GROUP BY near.gone"""
    )
    repeats = dict(found)
    stand_for_themselves(connection, tables, {first: record for record, first in repeats.items()})
    heirs = dict(connection.run(_others_of(tables, gone, entities))) | repeats
    if not heirs:
        return
    heir = f"unnest({bigints(heirs)}, {bigints(heirs.values())}) AS t (record_id, heir)"
    for pairs in (tables.edge, tables.review):
        connection.run(
            f"""WITH heir AS MATERIALIZED (SELECT * FROM {heir}), moved AS (
                SELECT e.ctid AS place, coalesce(a.heir, e.record_a) AS one, coalesce(b.heir, e.record_b) AS other
                FROM {pairs} e LEFT JOIN heir a ON a.record_id = e.record_a LEFT JOIN heir b ON b.record_id = e.record_b
                WHERE e.record_a = ANY ({gone}) OR e.record_b = ANY ({gone})
            )
            UPDATE {pairs} e SET record_a = least(one, other), record_b = greatest(one, other)
            FROM moved WHERE e.ctid = moved.place AND one <> other"""
        )


def _others_of(tables: Tables, gone: str, entities: str) -> str:
    """A query for the first member that stays of the same entity, source and customer, for each of those that leave.

    It goes through the entities once, in order. To join the table with itself takes the square of the time: of three
    columns together the planner expects one row, and compares each that leaves with each that stays."""
    return f"""
        SELECT record_id, other FROM (
            SELECT record_id, leaves, min(record_id) FILTER (WHERE stays)
                OVER (PARTITION BY entity_id, source, customer_id) AS other
            FROM (
                SELECT record_id, entity_id, source, customer_id, leaves, NOT leaves AND stands AS stays FROM (
                    SELECT record_id, entity_id, source, customer_id, {stands("m")} AS stands,
                        record_id = ANY ({gone}) AS leaves
                    FROM {tables.member} m WHERE entity_id = ANY ({entities}) OFFSET 0
                ) AS m
            ) AS m
        ) AS m WHERE leaves AND other IS NOT NULL"""


def repeats_of(connection: Connection, tables: Tables, repeated: str) -> dict[int, int]:
    """The members m that repeat one of an array of records: each, and what it repeats."""
    return dict(
        connection.run(
            f"""SELECT m.record_id, e.record_a FROM {tables.edge} e JOIN {tables.member} m ON m.record_id = e.record_b
                WHERE e.record_a = ANY ({repeated}) AND NOT {stands("m")}"""
        )
    )


def repeated_by(connection: Connection, tables: Tables, record_ids: Iterable[int]) -> dict[int, int]:
    """Those of some records that repeat others: each, and what it repeats."""
    return dict(
        connection.run(
            f"""SELECT m.record_id, e.record_a FROM {tables.edge} e JOIN {tables.member} m ON m.record_id = e.record_b
                WHERE e.record_b = ANY ({bigints(record_ids)}) AND NOT {stands("m")}"""
        )
    )


def stand_for_themselves(connection: Connection, tables: Tables, repeated: Mapping[int, int]) -> None:
    """Gives records that repeat others a form of their own, so that they can go another way than those: each, and what
    it repeats. Those that have one keep it."""
    if not repeated:
        return
    forms = ", ".join(f"{column} = o.{column}" for column in normalise.COLUMNS)
    connection.run(
        f"""UPDATE {tables.member} m SET {forms}
            FROM unnest({bigints(repeated)}, {bigints(repeated.values())}) AS r (record_id, repeated)
            JOIN {tables.member} o ON o.record_id = r.repeated
            WHERE m.record_id = r.record_id AND NOT {stands("m")}"""
    )


def _lose(tables: Tables, records: str, entities: str) -> str:
    """The parts of a WITH by which entities lose some of their members, and `changed` for count_changes(). `records`
    are those members, `entities` what they are members of, as arrays. The statement that deletes or moves the members
    still sees them: where all of a source's are among them, none is left."""
    return f"""parted AS (
            SELECT entity_id, source, count(*) FILTER (WHERE record_id = ANY ({records})) AS leaving, count(*) AS held
            FROM {tables.member} WHERE entity_id = ANY ({entities}) GROUP BY entity_id, source
        ), lost AS (
            SELECT entity_id, sum(leaving) AS records,
                bit_or(CASE WHEN leaving = held THEN 1::bigint << source ELSE 0 END) AS sources
            FROM parted WHERE leaving > 0 GROUP BY entity_id
        ), changed AS (
            UPDATE {tables.counted.table} m SET previous = m.sources, sources = m.sources & ~lost.sources,
                records = m.records - lost.records
            FROM lost WHERE m.entity_id = lost.entity_id RETURNING m.sources, m.previous
        )"""


def _values_of(members: str, fields: Iterable[str]) -> str:
    """A query for the values in each field of some members: field, value, and how many have it, n."""
    return " UNION ALL ".join(
        f"""SELECT {text(field)} AS field, {field} AS value, count(*) AS n FROM {members} WHERE {field} IS NOT NULL
            GROUP BY {field}"""
        for field in fields
    )


def _forget_values(connection: Connection, tables: Tables, gone: str, fields: Sequence[str]) -> None:
    """Takes from the terms what members that are about to leave have, and fewer than two others."""
    lone = " UNION ALL ".join(
        f"""SELECT t.ctid FROM ({_values_of("gone", [field])}) AS v
            JOIN {tables.term} t ON t.field = v.field AND t.value = v.value
            WHERE v.n + 2 > (SELECT count(*) FROM (
                SELECT FROM {tables.member} m WHERE m.{field} = t.value AND {stands("m")} LIMIT v.n + 2) AS m)"""
        for field in fields
    )
    connection.run(
        f"""WITH gone AS MATERIALIZED (
            SELECT {", ".join(fields)} FROM {tables.member} WHERE record_id = ANY ({gone})
        ) DELETE FROM {tables.term} WHERE ctid IN ({lone})"""
    )


def _forget_all_values(connection: Connection, tables: Tables, fields: Sequence[str]) -> None:
    """Takes from the terms what fewer than two members have. When many have left: to look for the values of each takes
    longer than to look at all members."""
    held = " UNION ALL ".join(
        f"SELECT {text(field)} AS field, {field} AS value FROM {tables.member} GROUP BY {field} HAVING count(*) > 1"
        for field in fields
    )
    connection.run(
        f"""DELETE FROM {tables.term} t WHERE value IS NOT NULL
            AND NOT EXISTS (SELECT FROM ({held}) AS h WHERE h.field = t.field AND h.value = t.value)"""
    )


def forget(connection: Connection, customer_id: int) -> None:
    """Takes a customer out of all runs whose tables are there, with the members that are no records any more. Before
    the records are deleted; from here on the caller is alone."""
    connection.run(f"SELECT {ALONE}")
    sweep(connection)
    for tables in there(connection):
        theirs = f"customer_id = {customer_id}"
        _count_out(connection, tables, theirs)
        detach_members(connection, tables, theirs)


def _count_out(connection: Connection, tables: Tables, leaving: str) -> None:
    """Lowers the terms by the members for which a condition holds. What then is of two others at least stays."""
    fields = term_columns(settings_of(connection, tables))
    if fields:
        connection.run(
            f"""WITH gone AS MATERIALIZED (SELECT {", ".join(fields)} FROM {tables.member} WHERE {leaving}),
            had AS MATERIALIZED ({_values_of("gone", fields)}), lowered AS (
                SELECT t.ctid AS place, h.n FROM had h JOIN {tables.term} t ON t.field = h.field AND t.value = h.value
                UNION ALL SELECT t.ctid, sum(h.n) FROM had h
                JOIN {tables.term} t ON t.field = h.field AND t.value IS NULL GROUP BY t.ctid
            )
            UPDATE {tables.term} t SET records = greatest(t.records - l.n, 2) FROM lowered l WHERE t.ctid = l.place"""
        )


def clear(connection: Connection) -> None:
    """Takes all records out of the active run, and drops the tables of the others."""
    tables = active_run(connection, ALONE)
    connection.run("DELETE FROM deferred_match")
    connection.run("UPDATE match_state SET removals = removals + 1")
    connection.run("UPDATE match_run SET kept = false WHERE id <> (SELECT active_run FROM match_state)")
    sweep(connection)
    if tables:
        connection.run(f"TRUNCATE {', '.join(tables.all)}")


def move(connection: Connection, tables: Tables, entity_of: Mapping[int, int]) -> None:
    """Gives records other entities: record → entity. The caller is alone."""
    if not entity_of:
        return
    records = bigints(entity_of)
    former = connection.run(f"SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id = ANY ({records})")
    moving = f"SELECT * FROM unnest({records}, {bigints(entity_of.values())}) AS t (record_id, entity_id)"
    counted = tables.counted
    connection.run(
        f"""WITH {_lose(tables, records, bigints(entity for [entity] in former))},
            {count_changes(NO_CHANGES, counted)} SELECT"""
    )
    connection.run(
        f"""UPDATE {tables.member} m SET entity_id = t.entity_id FROM ({moving}) AS t WHERE m.record_id = t.record_id"""
    )
    connection.run(
        f"""WITH {_gain(f"{tables.member} WHERE record_id = ANY ({records})", tables)},
            {count_changes(NO_CHANGES, counted)} SELECT"""
    )
    connection.run(f"DELETE FROM {counted.table} WHERE sources = 0")


# A run's tables, filled, checked and dropped


def there(connection: Connection) -> list[Tables]:
    """The tables of all runs that have any."""
    rows = connection.run(
        """SELECT DISTINCT split_part(relname, '_', 2)::bigint AS run FROM pg_class
           WHERE relnamespace = 'matching'::regnamespace AND relkind = 'r' AND relname ~ '^[a-z]+_[0-9]+$'
           ORDER BY run"""
    )
    return [Tables(run) for [run] in rows]


def sweep(connection: Connection) -> None:
    """Drops the tables of runs that are not kept, and that nobody works on; where somebody else keeps from it, the
    next one does."""
    if connection.run(f"SELECT {TRY}") == [[False]]:
        return
    rows = connection.run("SELECT id FROM match_run WHERE kept OR status = 'running' AND lease_until >= now()")
    needed = {run for [run] in rows}
    for tables in there(connection):
        if tables.run not in needed:
            tables.drop(connection)


_TRUE_MEMBERSHIP = (
    "SELECT entity_id, bit_or(1::bigint << source) AS sources, count(*) AS records FROM {member} GROUP BY 1"
)


def count_all(connection: Connection, tables: Tables) -> None:
    """Makes membership and counts of the members."""
    counted = tables.counted
    connection.run(f"TRUNCATE {counted.table}, {counted.changes}")
    connection.run(
        f"""INSERT INTO {counted.table} (entity_id, sources, records)
            {_TRUE_MEMBERSHIP.format(member=tables.member)} ORDER BY 1;
            INSERT INTO {counted.changes} {_true_changes(tables)}"""
    )


def _true_changes(tables: Tables) -> str:
    return f"""SELECT sources, sum(customers)::bigint, sum(records)::bigint FROM (
            SELECT bit_or(1::bigint << source) AS sources, 1 AS customers, 0 AS records FROM {tables.member}
            GROUP BY entity_id
            UNION ALL SELECT 1::bigint << source, 0, count(*) FROM {tables.member} GROUP BY source
        ) AS part GROUP BY {BY_REGION}"""


def wrong(connection: Connection) -> tuple[int, int, int]:
    """Entities in all, members and entities that are not what the records say, and regions that are counted wrong, of
    the active run."""
    tables = active_run(connection)
    if not tables:
        return 0, 0, 0
    counted = tables.counted
    [[entities, strayed, members, regions]] = connection.run(
        f"""WITH truth AS MATERIALIZED ({_TRUE_MEMBERSHIP.format(member=tables.member)}), kept AS (
            SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records
            FROM {counted.changes} GROUP BY {BY_REGION} HAVING sum(customers) <> 0 OR sum(records) <> 0
        )
        SELECT (SELECT count(*) FROM truth),
            (SELECT count(*) FROM {tables.member} m FULL JOIN record r ON r.id = m.record_id
             WHERE r.id IS NULL OR {_NOT_ITS_OWN}
                OR m.record_id IS NULL AND r.upload_id NOT IN (SELECT upload_id FROM deferred_match)),
            (SELECT count(*) FROM truth t FULL JOIN {counted.table} k USING (entity_id)
             WHERE (t.sources, t.records) IS DISTINCT FROM (k.sources, k.records)),
            (SELECT count(*) FROM ({_true_changes(tables)}) AS t (sources, customers, records)
             FULL JOIN kept k USING (sources)
             WHERE (t.customers, t.records) IS DISTINCT FROM (k.customers, k.records))"""
    )
    return entities, strayed + members, regions


def mend(connection: Connection) -> None:
    """Makes the active run what the records say. The caller keeps uploads away."""
    tables = active_run(connection, ALONE)
    if tables:
        _correct_identities(connection, tables)
        catch_up(connection, tables, "true", removed=True)
        count_all(connection, tables)


_NOT_ITS_OWN = "(m.source, m.customer_id) <> (r.source, r.customer_id)"
"""The condition in SQL that a member m is said to be of another source or customer than its record r is."""


def _correct_identities(connection: Connection, tables: Tables) -> None:
    """Gives members the source and customer of their records. They stay in their entities, until the next run looks
    again; what repeats another stands for itself, for the other may be another customer's."""
    rows = connection.run(
        f"SELECT m.record_id FROM {tables.member} m JOIN record r ON r.id = m.record_id WHERE {_NOT_ITS_OWN}"
    )
    if not rows:
        return
    ids = [record for [record] in rows]
    stand_for_themselves(connection, tables, repeated_by(connection, tables, ids))
    connection.run(
        f"""UPDATE {tables.member} m SET source = r.source, customer_id = r.customer_id FROM record r
            WHERE r.id = m.record_id AND m.record_id = ANY ({bigints(ids)})"""
    )


def catch_up(connection: Connection, tables: Tables, records: str, *, removed: bool) -> None:
    """Makes members of the records that are none, of those r that fit a condition; and, where records were removed,
    takes out the members that are no records."""
    _attach_missing(connection, tables, records, active_run(connection))
    if removed:
        missing = f"NOT EXISTS (SELECT FROM record r WHERE r.id = {tables.member}.record_id)"
        detach_members(connection, tables, missing)


def _attach_missing(connection: Connection, tables: Tables, records: str, former: Tables | None = None) -> None:
    missing = f"{records} AND NOT EXISTS (SELECT FROM {tables.member} m WHERE m.record_id = r.id)"
    attach_records(connection, tables, missing, former)


def _json(members: Sequence[Mapping[str, Any]]) -> str:
    return text(json.dumps(members))
