"""Resolves changed records: the edges, clusters and entities that a full run with the same model version would find,
from those before the change.

The state is a DuckDB database with what a full run has made of the records: normalised records with their keys, edges,
components, entities. A change is computed beside it, in the database `slice`, and only then written, so that it can be
given up. Everything that a change may affect is found by Change; docs/explanation/resolver.md says why nothing else is
affected. The queries are those of a full run, on fewer records."""

from collections.abc import Iterable

import pyarrow as pa
from dedup.matching.normalise import CONTENT
from dedup.matching.settings import Settings
from splink import Linker

from jobs.matching import outputs, preparation, scoring
from jobs.matching.clustering import create_clusters, create_components, create_entities
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.edges import NO_MODEL_EDGES, create_rule_edges
from jobs.matching.engine import RECORDS_SCHEMA
from jobs.matching.model import Model
from jobs.matching.summary import Summary

_COLUMNS = tuple(RECORDS_SCHEMA.names)
_HASH = f"hash({', '.join(CONTENT)}) AS content"
"""A record's content as a number: records with equal content have the same."""

NEW = 2**62
"""From here on, the id of an entity is a placeholder, see Change.number()."""

_NO_REVIEW = """SELECT CAST(0 AS bigint) AS record_l, CAST(0 AS bigint) AS record_r, CAST(0 AS double) AS match_weight,
    CAST(0 AS double) AS match_probability, '' AS waterfall, '' AS constraint_name, CAST(0 AS double) AS uncertainty
    WHERE 1 = 0"""


class State:
    """The resolved records of one model version. `settings`: the version's, without the constraints that it waives. The
    engine has the version's term frequencies, the table `term`."""

    def __init__(self, engine: DuckDB, settings: Settings, model: Model) -> None:
        self.engine = engine
        self.settings = settings
        self.model = model
        self._database = str(engine.rows("SELECT current_database()")[0][0])
        engine.connection.execute("ATTACH IF NOT EXISTS ':memory:' AS slice")
        engine.fill("member", RECORDS_SCHEMA.empty_table())
        engine.create("model_edge", NO_MODEL_EDGES)
        engine.create("entity", "SELECT id AS record_id, id AS entity_id FROM member")
        engine.create("review", _NO_REVIEW)
        Decisions().create_tables(engine)
        self.derive()

    def change(self, arrived: pa.Table, gone: Iterable[int], decisions: Decisions | None = None) -> "Change":
        """Computes what follows if records arrive or change (`arrived`, as RECORDS_SCHEMA), others are gone, and all
        decisions are `decisions` (None: as before). The caller calls number(), looks at the tables of the result, and
        calls keep(), or does nothing."""
        return Change(self, arrived, gone, decisions)

    def of(self, table: str) -> str:
        """The name of a table of the state, whatever the slice has."""
        return f"{self._database}.main.{table}"

    def keys_of(self, records: str) -> str:
        """A query (id, key) for the keys of records that have them: each as a number, of which two keys might share
        one, so that it says which records to look at, and no more."""
        rules, blocks = preparation.key_names(self.settings)
        keys = ", ".join(f"CASE WHEN {n} IS NOT NULL THEN hash('{n}', {n}) END" for n in (*rules, *blocks))
        return (
            f"SELECT id, key FROM (SELECT id, unnest([{keys}]) AS key FROM {records} AS r) AS k WHERE key IS NOT NULL"
        )

    def search(self, *, in_slice: bool) -> None:
        """Has names without a database mean tables of the slice first, and made there; or those of the state only."""
        state = f"{self._database}.main"
        self.engine.connection.execute(f"SET search_path = '{f'slice.main,{state}' if in_slice else state}'")

    def derive(self) -> None:
        """Makes what follows from the tables member, model_edge and decision and is cheaper to make than to store:
        duplicates, common values, representatives, keys, edges of match rules, components."""
        engine, settings = self.engine, self.settings
        engine.create("customer_duplicate", preparation.customer_duplicates(settings, "member"))
        for column in settings.constraints.personal:
            engine.create(f"common_{column}", preparation.common_values(settings, column, "member"))
        distinct = "(FROM member ANTI JOIN customer_duplicate USING (id))"
        values = preparation.without_common_values(settings, _COLUMNS, distinct)
        engine.create("valued", f"SELECT *, {_HASH} FROM ({preparation.represented(settings, f'({values})')}) AS r")
        self.new_slice()
        self.search(in_slice=True)
        try:
            engine.create("records", f"SELECT * EXCLUDE (content) FROM {self.of('valued')}")
            preparation.add_keys(engine, settings)
            create_rule_edges(engine, settings)
            create_components(engine, settings)
        finally:
            self.search(in_slice=False)
        for table in ("rule_edge", "component"):
            engine.create(table, f"FROM slice.main.{table}")
        engine.create("key_of", self.keys_of("slice.main.keyed_record"))
        self.new_slice()

    def new_slice(self) -> None:
        """Empties the slice."""
        self.engine.connection.execute("DETACH slice")
        self.engine.connection.execute("ATTACH ':memory:' AS slice")
        self.engine.forget()


class Change:
    """What a change does. Its tables, in the slice:

    replaced (id): records that were changed, or are gone, with `arrived`, the new ones
    changed (id): the records whose values may be others than before; changed_duplicate (id, representative)
    dirty (id): the records whose evidence was gathered again; all their former edges are void
    former_id (id): the records whose clusters are void
    affected (id): the records that were clustered again, with `all_record`, which adds their exact duplicates
    new_rule_edge, new_model_edge, remaining_edge; entity; review: what now holds for these."""

    def __init__(self, state: State, arrived: pa.Table, gone: Iterable[int], decisions: Decisions | None) -> None:
        self._state = state
        self._engine = state.engine
        self._settings = state.settings
        self._rules, self._blocks = preparation.key_names(state.settings)
        self._summary = Summary("duckdb", state.settings)
        state.new_slice()
        state.search(in_slice=True)
        try:
            self._take(arrived, gone, decisions)
            self._find_customer_duplicates()
            self._find_common_values()
            self._represent()
            self._find_dirty()
            self._gather_evidence()
            self._cluster()
        finally:
            state.search(in_slice=False)

    # Values

    def _take(self, arrived: pa.Table, gone: Iterable[int], decisions: Decisions | None) -> None:
        of, create = self._state.of, self._engine.create
        self._engine.fill("arrived", arrived)
        self._engine.fill("gone", pa.table({"id": pa.array(sorted({*gone}), pa.int64())}))
        if decisions is None:
            for table in ("decision", "decided"):
                create(table, f"SELECT * FROM {of(table)}")
        else:
            decisions.create_tables(self._engine)
        create(
            "redecided",
            f"""SELECT unnest([id_l, id_r]) AS id FROM (
                (FROM decision EXCEPT FROM {of("decision")}) UNION ALL (FROM {of("decision")} EXCEPT FROM decision)
            ) AS changed""",
        )
        create("replaced", "SELECT id FROM arrived UNION SELECT id FROM gone")
        create("touched", "FROM replaced UNION SELECT id FROM redecided")
        self._view("member_now", f"FROM {of('member')} ANTI JOIN replaced USING (id) UNION ALL FROM arrived")
        # As they were and as they are.
        create("touched_row", f"FROM {of('member')} SEMI JOIN touched USING (id) UNION ALL FROM arrived")

    def _find_customer_duplicates(self) -> None:
        of, create = self._state.of, self._engine.create
        create(
            "of_customer",
            """FROM member_now SEMI JOIN (SELECT DISTINCT source, customer_id FROM touched_row) AS c
                USING (source, customer_id)""",
        )
        create("of_customer_id", "SELECT id FROM of_customer UNION FROM touched")
        create("new_duplicate", preparation.customer_duplicates(self._settings, "of_customer"))
        create("old_duplicate", f"FROM {of('customer_duplicate')} SEMI JOIN of_customer_id USING (id)")
        create(
            "changed_duplicate",
            """(FROM new_duplicate EXCEPT FROM old_duplicate)
                UNION ALL (FROM old_duplicate EXCEPT FROM new_duplicate)""",
        )
        self._view(
            "duplicate_now",
            f"FROM {of('customer_duplicate')} ANTI JOIN of_customer_id USING (id) UNION ALL FROM new_duplicate",
        )

    def _find_common_values(self) -> None:
        """Finds the values that became common, or are so no more: all their records change."""
        of, create = self._state.of, self._engine.create
        flipped = []
        for column in self._settings.constraints.personal:
            create(f"value_{column}", f"SELECT DISTINCT {column} FROM touched_row WHERE {column} IS NOT NULL")
            of_value = f"(FROM member_now SEMI JOIN value_{column} USING ({column}))"
            create(f"new_common_{column}", preparation.common_values(self._settings, column, of_value))
            former = f"FROM {of(f'common_{column}')} SEMI JOIN value_{column} USING ({column})"
            create(
                f"flipped_{column}",
                f"""({former} EXCEPT FROM new_common_{column})
                    UNION ALL (FROM new_common_{column} EXCEPT ({former}))""",
            )
            self._view(
                f"common_{column}",
                f"""FROM {of(f"common_{column}")} ANTI JOIN value_{column} USING ({column})
                    UNION ALL FROM new_common_{column}""",
            )
            flipped.append(f"UNION SELECT id FROM member_now SEMI JOIN flipped_{column} USING ({column})")
        create("changed_value", f"FROM of_customer_id {' '.join(flipped)}")

    def _represent(self) -> None:
        of, create = self._state.of, self._engine.create
        distinct = "(FROM member_now SEMI JOIN changed_value USING (id) ANTI JOIN duplicate_now USING (id))"
        create("distinct_value", preparation.without_common_values(self._settings, _COLUMNS, distinct))
        create(
            "content",
            f"""SELECT {_HASH} FROM distinct_value
                UNION SELECT content FROM {of("valued")} SEMI JOIN changed_value USING (id)""",
        )
        columns = ", ".join((*_COLUMNS, "common"))
        create(
            "same_content",
            f"""SELECT {columns} FROM distinct_value UNION ALL
                SELECT {columns} FROM {of("valued")} SEMI JOIN content USING (content)
                    ANTI JOIN changed_value USING (id)""",
        )
        create("valued_again", "SELECT id FROM same_content UNION FROM changed_value")
        represented = preparation.represented(self._settings, "same_content")
        create("new_valued", f"SELECT *, {_HASH} FROM ({represented}) AS r")
        create("old_valued", f"FROM {of('valued')} SEMI JOIN valued_again USING (id)")
        self._view("valued_now", f"FROM {of('valued')} ANTI JOIN valued_again USING (id) UNION ALL FROM new_valued")
        create("new_key_of", self._state.keys_of(f"({preparation.keyed(self._settings, 'new_valued')})"))
        self._view("key_of_now", f"FROM {of('key_of')} ANTI JOIN valued_again USING (id) UNION ALL FROM new_key_of")

    # Edges

    def _find_dirty(self) -> None:
        """Finds the records whose pairs may be others than before: those that changed, and those of a key that came to
        be shared by too many records, or is so no more."""
        create = self._engine.create
        create(
            "changed",
            """FROM touched UNION SELECT id FROM (
                (FROM new_valued EXCEPT FROM old_valued) UNION ALL (FROM old_valued EXCEPT FROM new_valued)) AS v""",
        )
        self._look_near("changed")
        dirty = ["FROM changed"]
        for name in (*self._rules, *self._blocks):
            of_key = f"SELECT id FROM near_now SEMI JOIN ({self._flipped(name)}) AS f USING ({name})"
            create(f"dirty_{name}", of_key)
            dirty.append(f"FROM dirty_{name}")
        create("dirty", " UNION ".join(dirty))

    def _flipped(self, name: str) -> str:
        """A query for the keys of changed records that have another state than before."""
        of_changed = f"SEMI JOIN changed USING (id) WHERE {name} IS NOT NULL"
        before, now = (self._limits(name, table) for table in ("near_before", "near_now"))
        # A key that nobody has is not shared by too many.
        return f"""WITH key AS (
                SELECT {name} FROM near_before {of_changed} UNION SELECT {name} FROM near_now {of_changed}
            ) SELECT {name} FROM ({before}) AS b FULL JOIN ({now}) AS n USING ({name})
            WHERE coalesce(b.state, '') <> coalesce(n.state, '')"""

    def _look_near(self, ids: str) -> None:
        """Makes near_before and near_now: the records that share a key with some, as they were and are, with keys."""
        of, create = self._state.of, self._engine.create
        create(
            "near_key",
            f"""SELECT key FROM {of("key_of")} SEMI JOIN {ids} USING (id)
                UNION SELECT key FROM key_of_now SEMI JOIN {ids} USING (id)""",
        )
        create("near_before_id", f"SELECT DISTINCT id FROM {of('key_of')} SEMI JOIN near_key USING (key)")
        create("near_now_id", "SELECT DISTINCT id FROM key_of_now SEMI JOIN near_key USING (key)")
        for when, table in (("before", of("valued")), ("now", "valued_now")):
            near = f"(FROM {table} SEMI JOIN near_{when}_id USING (id))"
            create(f"near_{when}", preparation.keyed(self._settings, near))

    def _limits(self, name: str, table: str) -> str:
        """A query for the state of the keys in the table `key`: '' if all of its records are compared, otherwise the
        hub, or that none is."""
        shared = f"FROM {table} AS r SEMI JOIN key USING ({name}) GROUP BY {name}"
        if name in self._blocks:
            most = self._settings.blocking[self._blocks.index(name)].at_most
            return f"SELECT {name}, CASE WHEN count(*) > {most} THEN 'none' ELSE '' END AS state {shared}"
        most = self._settings.constraints.max_rule_block
        return f"""SELECT {name}, CASE WHEN {preparation.PEOPLE} > {most} THEN 'none'
            WHEN count(*) > {most} THEN CAST(min(id) AS string) ELSE '' END AS state {shared}"""

    def _gather_evidence(self) -> None:
        create = self._engine.create
        near = [
            "FROM dirty",
            "SELECT id FROM valued_now SEMI JOIN dirty ON valued_now.representative = dirty.id",
            "SELECT representative FROM valued_now SEMI JOIN dirty USING (id)",
        ]
        self._look_near("dirty")
        for name in (*self._rules, *self._blocks):
            key = f"(SELECT DISTINCT {name} FROM near_now SEMI JOIN dirty USING (id)) AS key"
            of_key = f"(FROM near_now SEMI JOIN {key} USING ({name}))"
            create(f"shared_{name}", preparation.shared_keys(self._settings, name, of_key))
            of_hub = ""
            if name in self._rules:
                most = self._settings.constraints.max_rule_block
                # Of many records of few people, only the hub is joined with others.
                of_hub = f"WHERE s.records <= {most} OR k.id = s.hub OR s.hub IN (SELECT id FROM dirty)"
            near.append(f"SELECT k.id FROM near_now k JOIN shared_{name} s USING ({name}) {of_hub}")
        create("near", " UNION ".join(near))
        columns = (*_COLUMNS, "representative")
        keyed = preparation.keyed(self._settings, "(FROM valued_now SEMI JOIN near USING (id))")
        create("records", preparation.usable_keys(self._settings, columns, f"({keyed})"))
        create_rule_edges(self._engine, self._settings)
        create("new_rule_edge", "FROM rule_edge WHERE id_l IN (FROM dirty) OR id_r IN (FROM dirty)")
        self._score()

    def _score(self) -> None:
        create = self._engine.create
        if "model" not in self._settings.methods:
            create("new_model_edge", NO_MODEL_EDGES)
            return
        pairs = " UNION ".join(
            f"""SELECT l.id AS id_l, r.id AS id_r FROM records l JOIN records r USING ({name})
                WHERE l.id < r.id AND (l.id IN (FROM dirty) OR r.id IN (FROM dirty))"""
            for name in self._blocks
        )
        create("candidate", pairs)
        if not self._engine.rows("FROM candidate LIMIT 1"):
            # Splink takes as long for no pairs as for a thousand.
            create("new_model_edge", NO_MODEL_EDGES)
            return
        # What is neither joined nor reviewed is not kept: it is scored again if it matters.
        keep = self._settings.thresholds.review
        scoring.score(self._linker(), self._engine, self._settings, "new_model_edge", pairs="candidate", keep=keep)

    def _linker(self) -> Linker:
        scoring.apply_terms(self._engine, self._settings, "records", self._state.model.terms or "")
        return scoring.create_linker(self._engine, self._settings, self._state.model, self._state.model.records)

    # Clusters

    def _cluster(self) -> None:
        of, create = self._state.of, self._engine.create
        thresholds = self._settings.thresholds
        create(
            "seed",
            f"""FROM dirty UNION SELECT id_l FROM new_rule_edge UNION SELECT id_r FROM new_rule_edge
                UNION SELECT unnest([id_l, id_r]) FROM new_model_edge
                    WHERE match_weight >= {thresholds.match} AND veto IS NULL
                UNION SELECT unnest([id_l, id_r]) FROM decision SEMI JOIN redecided
                    ON redecided.id IN (decision.id_l, decision.id_r)
                UNION SELECT representative FROM changed_duplicate""",
        )
        create(
            "former_id",
            f"""FROM seed UNION SELECT id FROM {of("component")}
                WHERE cluster IN (SELECT cluster FROM {of("component")} SEMI JOIN seed USING (id))""",
        )
        create("affected", "SELECT id FROM valued_now SEMI JOIN former_id USING (id)")
        create("records", preparation.keyed(self._settings, "(FROM valued_now SEMI JOIN affected USING (id))"))
        create("customer_duplicate", "FROM duplicate_now WHERE representative IN (FROM affected)")
        create(
            "all_record",
            """SELECT id, source, customer_id FROM member_now SEMI JOIN (
                FROM affected UNION SELECT id FROM customer_duplicate) AS a USING (id)""",
        )
        self._take_edges()
        with_model = "model" in self._settings.methods
        create_clusters(self._engine, self._settings, self._summary, self._linker if with_model else None)
        create(
            "remaining_edge",
            f"FROM model_edge WHERE remaining AND match_weight >= {thresholds.review}",
        )
        create_entities(self._engine, f"FROM {of('entity')} WHERE record_id IN (SELECT id FROM all_record)", NEW)
        create("review", outputs.review(self._settings))

    def _take_edges(self) -> None:
        """Makes the edges of the affected records: the new ones, and the old ones of records that are not dirty, but
        for those that were found only because of what was in the component."""
        of, create = self._state.of, self._engine.create
        clean = "id_l NOT IN (FROM dirty) AND id_r NOT IN (FROM dirty)"
        near = "(id_l IN (FROM affected) OR id_r IN (FROM affected))"
        create("rule_edge", f"FROM {of('rule_edge')} WHERE {clean} AND {near} UNION ALL FROM new_rule_edge")
        create(
            "model_edge",
            f"""FROM {of("model_edge")} WHERE NOT remaining AND {clean} AND {near}
                UNION ALL FROM new_model_edge""",
        )

    # The end

    @property
    def new_entities(self) -> int:
        """How many entities are new."""
        [(highest,)] = self._engine.rows("SELECT coalesce(max(entity_id), 0) FROM slice.main.entity")
        return max(0, int(highest) - NEW + 1)

    def number(self, first_id: int) -> None:
        """Gives the new entities the ids from `first_id` on."""
        self._engine.connection.execute(
            f"UPDATE slice.main.entity SET entity_id = entity_id - {NEW} + {first_id} WHERE entity_id >= {NEW}"
        )

    def keep(self) -> None:
        """Writes the change to the state, in one transaction."""
        of, connection = self._state.of, self._engine.connection
        personal = self._settings.constraints.personal
        steps = [
            ("member", "id IN (FROM {0}replaced)", "FROM {0}arrived"),
            ("customer_duplicate", "id IN (FROM {0}of_customer_id)", "FROM {0}new_duplicate"),
            *((f"common_{c}", f"{c} IN (FROM {{0}}value_{c})", f"FROM {{0}}new_common_{c}") for c in personal),
            ("valued", "id IN (FROM {0}valued_again)", "FROM {0}new_valued"),
            ("key_of", "id IN (FROM {0}valued_again)", "FROM {0}new_key_of"),
            ("rule_edge", "id_l IN (FROM {0}dirty) OR id_r IN (FROM {0}dirty)", "FROM {0}new_rule_edge"),
            (
                "model_edge",
                """id_l IN (FROM {0}dirty) OR id_r IN (FROM {0}dirty)
                    OR remaining AND (id_l IN (FROM {0}former_id) OR id_r IN (FROM {0}former_id))""",
                "FROM {0}new_model_edge UNION ALL FROM {0}remaining_edge",
            ),
            ("component", "id IN (FROM {0}former_id)", "FROM {0}component"),
            ("review", "record_l IN (FROM {0}former_id) OR record_r IN (FROM {0}former_id)", "FROM {0}review"),
            (
                "entity",
                "record_id IN (FROM {0}replaced) OR record_id IN (SELECT id FROM {0}all_record)",
                "FROM {0}entity",
            ),
            ("decision", "true", "FROM {0}decision"),
            ("decided", "true", "FROM {0}decided"),
        ]
        connection.execute("BEGIN")
        for table, void, now in steps:
            connection.execute(f"DELETE FROM {of(table)} WHERE {void.format('slice.main.')}")
            connection.execute(f"INSERT INTO {of(table)} {now.format('slice.main.')}")
        connection.execute("COMMIT")

    def _view(self, name: str, query: str) -> None:
        self._engine.connection.execute(f"CREATE OR REPLACE VIEW slice.main.{name} AS {query}")
