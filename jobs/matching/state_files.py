"""The rows of a run's tables as CSV files in a folder, from which the state of the resolver is made, and to which the
effect of a change is written. The store reads and writes them, see dedup.store.matching.resolving."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from dedup.matching.normalise import COLUMNS
from dedup.matching.rules import IDENTITY
from dedup.matching.scoring import prior_weight
from dedup.store.matching.resolving import Resolved, Tables
from dedup.store.matching.run_tables import EDGE_COLUMNS, MEMBER_COLUMNS, REVIEW_COLUMNS

from jobs.matching import outputs
from jobs.matching.incremental import State
from jobs.matching.outputs import EDGE_ROWS, REVIEW_ROWS
from jobs.matching.preparation import with_common_value

NAMES = ("members", "edges", "review", "decisions", "terms")
"""The files, in the order of Tables. Resolved has the first four."""

_KINDS = dict.fromkeys(("record_id", "entity_id", "record_a", "record_b", "representative", "records"), "BIGINT")
_KINDS |= dict.fromkeys(("weight", "probability", "uncertainty"), "DOUBLE") | {
    "joins": "BOOLEAN",
    "remaining": "BOOLEAN",
}


def open_tables(folder: Path, opened: ExitStack) -> Tables:
    """The files, empty, and open until `opened` is closed."""
    return Tables(*(opened.enter_context((folder / f"{name}.csv").open("wb+")) for name in NAMES))


def restore(state: State, folder: Path) -> None:
    """Makes the state of the rows of all tables."""
    engine, personal = state.engine, state.settings.constraints.personal
    engine.create("term", _read(folder, "terms", ("field", "value", "records")))
    engine.create("stored", _read(folder, "members", MEMBER_COLUMNS))
    values = ", ".join(f"{with_common_value(c) if c in personal else c} AS {c}" for c in COLUMNS)
    identity = ", ".join(IDENTITY)
    engine.create("member", f"SELECT record_id AS id, {identity}, {values} FROM stored WHERE representative IS NULL")
    same = ", ".join(f"r.{column}" for column in COLUMNS)
    engine.connection.execute(
        f"""INSERT INTO member SELECT s.record_id, {", ".join(f"s.{column}" for column in IDENTITY)}, {same}
            FROM stored s JOIN member r ON r.id = s.representative"""
    )
    engine.create("entity", "SELECT record_id, entity_id FROM stored")
    engine.connection.execute("DROP TABLE stored")
    engine.create(
        "model_edge",
        f"""SELECT record_a AS id_l, record_b AS id_r, weight - {prior_weight(state.model.prior)!r} AS evidence,
            weight AS match_weight, probability AS match_probability, veto, review_flag, waterfall, remaining
            FROM ({_read(folder, "edges", EDGE_COLUMNS)}) AS e WHERE weight IS NOT NULL""",
    )
    engine.create(
        "review",
        f"""SELECT record_a AS record_l, record_b AS record_r, weight AS match_weight,
            probability AS match_probability, waterfall, constraint_name, uncertainty
            FROM ({_read(folder, "review", REVIEW_COLUMNS)}) AS r""",
    )
    decided = _read(folder, "decisions", ("record_a", "record_b", "decision"))
    engine.create("decision", f"SELECT record_a AS id_l, record_b AS id_r, decision FROM ({decided}) AS d")
    engine.create("decided", "SELECT id_l AS id FROM decision UNION SELECT id_r FROM decision")
    state.derive()


def write(state: State, folder: Path, opened: ExitStack) -> Resolved:
    """Writes what the last Change of the state adds to the tables; returns the files, open until `opened` is closed,
    with what else it does to the tables. Its new entities have their ids."""
    engine, of = state.engine, state.of
    state.search(in_slice=True)
    try:
        engine.create("rewritten", "FROM replaced UNION FROM changed UNION SELECT id FROM changed_duplicate")
        engine.create("void", "FROM dirty UNION SELECT id FROM changed_duplicate")
        duplicates = """(FROM duplicate_now WHERE id IN (FROM void) OR representative IN (FROM void))"""
        edges = outputs.edges(
            state.settings,
            rules="new_rule_edge",
            scored="(FROM new_model_edge UNION ALL FROM remaining_edge)",
            duplicates=duplicates,
        )
        queries = (
            _members(state),
            f"{EDGE_ROWS} ({edges}) AS e WHERE reason <> 'decision'",
            f"{REVIEW_ROWS} review",
            "FROM decision",
        )
        files = [folder / f"{name}.csv" for name in NAMES[: len(queries)]]
        for path, query in zip(files, queries, strict=True):
            engine.connection.execute(f"COPY ({query}) TO '{path}' (FORMAT csv, HEADER false)")
        members, found_edges, review, decisions = (opened.enter_context(path.open("rb")) for path in files)
        moved = engine.rows(
            f"""SELECT record_id, e.entity_id FROM entity e JOIN {of("entity")} o USING (record_id)
                WHERE e.entity_id <> o.entity_id AND record_id NOT IN (FROM rewritten)"""
        )
        return Resolved(
            members=members,
            edges=found_edges,
            review=review,
            decisions=decisions,
            rewritten=[record for (record,) in engine.rows("FROM rewritten")],
            entities=dict(moved),
            void=[record for (record,) in engine.rows("FROM void")],
            affected=[record for (record,) in engine.rows("FROM former_id")],
            decided=bool(engine.rows("FROM redecided LIMIT 1")),
        )
    finally:
        state.search(in_slice=False)


def _members(state: State) -> str:
    """A query for the members that are written again, as MEMBER_COLUMNS. Those that no change of clusters concerns stay
    in their entities."""
    columns = ", ".join(
        {
            "record_id": "m.id",
            "entity_id": "coalesce(e.entity_id, o.entity_id)",
            "representative": "d.representative",
            **{column: f"m.{column}" for column in IDENTITY},
        }.get(column, f"v.{column}")
        for column in MEMBER_COLUMNS
    )
    return f"""SELECT {columns} FROM (FROM member_now SEMI JOIN rewritten USING (id)) AS m
        LEFT JOIN entity e ON e.record_id = m.id LEFT JOIN {state.of("entity")} o ON o.record_id = m.id
        LEFT JOIN duplicate_now d ON d.id = m.id LEFT JOIN valued_now v ON v.id = m.id"""


def _read(folder: Path, name: str, columns: Iterable[str]) -> str:
    """A query for the rows of a file."""
    typed = ", ".join(f"'{column}': '{_KINDS.get(column, 'VARCHAR')}'" for column in columns)
    return f"""SELECT * FROM read_csv('{folder / name}.csv', header = false, delim = ',', quote = '"', escape = '"',
        new_line = '\\n', auto_detect = false, allow_quoted_nulls = false, columns = {{{typed}}})"""
