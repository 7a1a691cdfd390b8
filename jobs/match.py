"""python -m jobs.match INPUT OUTPUT: which records are one person, and why.

Rules first, then probability (Splink), then clusters with constraints. The same code on DuckDB and on Spark. Reads Parquet,
CSV or JSON; writes a folder:

    entities.parquet    record_id, entity_id
    edges.parquet       record_l, record_r, reason (decision, rule, model), rule, match_weight, match_probability, waterfall,
                        joins: whether it was taken to join them
    members.parquet     entity_id, and each record's comparable form; none where it repeats another, as an edge says
    terms.parquet       field, value, records: how many have a value, where several do; and, without a value, any
    review.parquet      the pairs that a person should look at, the most uncertain first: as edges, and constraint_name, uncertainty
    histogram.parquet   match_weight (from), pairs
    model.json          what was learnt; give it to a later run with --model
    settings.json       what the run was told
    run.json            counts, seconds of each step, versions
"""

import argparse
import json
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from dedup.matching.clustering import ALIKE, STRONGEST, Edge, Facts, Pair, resolve
from dedup.matching.normalise import COLUMNS, SAID
from dedup.matching.rules import IDENTITY, Rule, content_rules, conventions_of, identity_rule, rules_of, term_columns
from dedup.matching.settings import DEFAULT, Settings
from splink import Linker
from splink.clustering import cluster_pairwise_predictions_at_threshold

from jobs import BadInput, scoring, storage
from jobs.engines import ENGINES, Engine
from jobs.model import DEFAULT_MODEL, Model
from jobs.scratch import Scratch

logger = logging.getLogger("jobs")


@dataclass
class Run:
    """What a run did: `counts` of things, and `seconds` of each step."""

    engine: str
    settings: Settings
    waived: tuple[str, ...] = ()
    """The constraints that the records showed to be needless."""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    model_version: str = ""
    trained: bool = False
    report: Callable[[str], None] = lambda step: None
    """Is told of each step before it begins: read, rules, train, score, cluster, write."""

    @property
    def compared(self) -> int:
        """Records that the model compares with others: those that say the same as no earlier one."""
        return self.counts["records"] - self.counts["repeats"] - self.counts["echoes"]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Takes the time of a step."""
        begun = time.perf_counter()
        logger.info("%s …", name)
        self.report(name)
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 2)

    def summary(self) -> dict[str, Any]:
        """As run.json has it."""
        return {
            "engine": self.engine,
            "methods": self.settings.methods,
            "model": {"version": self.model_version, "trained_here": self.trained},
            "waived": self.waived,
            "counts": self.counts,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Decisions:
    """What people said of pairs of records, the smaller id first."""

    same: frozenset[Pair] = frozenset()
    different: frozenset[Pair] = frozenset()

    @classmethod
    def of(cls, rows: list[Mapping[str, Any]]) -> "Decisions":
        """From rows of {"records": [id, …], "decision": "same" | "different"}. A later one overrules an earlier one."""
        said: dict[Pair, str] = {}
        for row in rows:
            ids = sorted(int(record) for record in row["records"])
            for n, one in enumerate(ids):
                said |= dict.fromkeys(((one, other) for other in ids[n + 1 :]), row["decision"])
        return cls(
            frozenset(pair for pair, decision in said.items() if decision == "same"),
            frozenset(pair for pair, decision in said.items() if decision == "different"),
        )


def match(
    engine: Engine,
    source: str,
    output: str,
    settings: Settings,
    *,
    decisions: Decisions | None = None,
    previous: str | None = None,
    model: Model | None = None,
    first_id: int = 1,
    report: Callable[[str], None] = lambda step: None,
) -> Run:
    """Matches the records of `source` and writes what was found to `output`; what the run did.

    `source`: a path, or "" where the engine has the table `raw` already. `previous`: an earlier run's entities.parquet,
    whose ids are kept where most of an entity's records stayed. `model`: used as it is; without one it is learnt here,
    or the default one is taken where the records are too few to learn from. `first_id`: new entities get ids from here,
    and above those of `previous`. `report` is told of each step before it begins. Raises BadInput."""
    run = Run(engine.name, settings, report=report)
    with run.step("read"):
        if source:
            engine.read(source)
        engine.normalise(conventions_of(settings.model_dump()))
        [(records, ids)] = engine.rows("SELECT count(*), count(DISTINCT id) FROM records")
        if records != ids:
            raise BadInput(f"{source}: expected each id once; {records} records have {ids} ids")
        run.counts["records"] = records
        _said(engine, decisions or Decisions())
        _set_repeats_apart(engine, settings, run)
        _forget_shared(engine, settings)
        _hear_once(engine, settings, run)
        _keys(engine, settings)
        told, settings = settings, _without_needless_constraints(engine, settings, run)
    with run.step("rules"):
        _rule_edges(engine, settings)
        [(run.counts["rule_pairs"],)] = engine.rows("SELECT count(*) FROM (SELECT DISTINCT id_l, id_r FROM rule_edge)")
    if "model" in settings.methods:
        used, linker = _score(engine, settings, run, model)
    else:
        # A lookup scores with it.
        used, linker = _start(settings, run, model), None
        engine.create("model_edge", _NO_MODEL_EDGES)
    run.model_version = used.version
    with run.step("cluster"):
        refused = _cluster(engine, settings, run, linker)
        _keep_ids(engine, previous, first_id)
    with run.step("write"):
        if not output.startswith(storage.S3):
            Path(output).mkdir(parents=True, exist_ok=True)
        _write(engine, settings, output, refused)
        [(run.counts["entities"],)] = engine.rows("SELECT count(DISTINCT entity_id) FROM entity")
        storage.write(f"{output}/model.json", used.text())
        storage.write(f"{output}/settings.json", told.model_dump_json(indent=2) + "\n")
    # Last: a folder with this file is a run that was finished.
    storage.write(f"{output}/run.json", json.dumps(run.summary(), indent=2) + "\n")
    return run


_NO_MODEL_EDGES = """SELECT CAST(0 AS bigint) AS id_l, CAST(0 AS bigint) AS id_r, CAST(0 AS double) AS match_weight,
    CAST(0 AS double) AS match_probability, CAST('' AS string) AS veto, CAST('' AS string) AS review_flag, CAST('' AS string) AS waterfall WHERE 1 = 0"""


def _set_repeats_apart(engine: Engine, settings: Settings, run: Run) -> None:
    """Takes from `records` those that say the same as an earlier one of the same customer of the same source, where a rule
    makes such records one: `repeat` (id, repeat_of). They would tell of nobody else, teach the model that no two records
    differ, and as many as constraints allow of one value would soon be one customer's. One of whom a person spoke stays."""
    joins = bool(_identity_rule(settings))
    whole = ", ".join(f"r.{column}" for column in (*IDENTITY, *SAID))
    engine.create("spoken", "SELECT id_l AS id FROM decision UNION SELECT id_r FROM decision")
    engine.create(
        "repeat",
        f"""SELECT id, repeat_of FROM (
            SELECT r.id, min(r.id) OVER (PARTITION BY {whole}) AS repeat_of, spoken.id AS spoken FROM records r
            JOIN (SELECT source, customer_id FROM records GROUP BY source, customer_id HAVING count(*) > 1) AS several
                ON several.source = r.source AND several.customer_id = r.customer_id
            LEFT JOIN spoken ON spoken.id = r.id
            WHERE {str(joins).lower()}
        ) AS same WHERE id <> repeat_of AND spoken IS NULL""",
    )
    engine.create("everyone", f"SELECT id, {', '.join(IDENTITY)} FROM records")
    [(run.counts["repeats"],)] = engine.rows("SELECT count(*) FROM repeat")
    if run.counts["repeats"]:
        engine.create("first", "SELECT r.* FROM records r LEFT JOIN repeat p ON p.id = r.id WHERE p.id IS NULL")
        engine.create("records", "SELECT * FROM first")


def _identity_rule(settings: Settings) -> Rule | None:
    return identity_rule(rules_of(settings.model_dump()))


def _forget_shared(engine: Engine, settings: Settings) -> None:
    """Takes from `records` the values of personal columns that people of too many names have."""
    constraints = settings.constraints
    if not constraints.personal:
        return
    for column in constraints.personal:
        engine.create(
            f"common_{column}",
            f"""SELECT {column} FROM records WHERE {column} IS NOT NULL GROUP BY {column}
                HAVING count(DISTINCT root) > {constraints.max_names}""",
        )
    kept = ", ".join(
        f"CASE WHEN common_{column}.{column} IS NULL THEN records.{column} END AS {column}"
        if column in constraints.personal
        else f"records.{column}"
        for column in engine.columns("records")
    )
    joins = " ".join(f"LEFT JOIN common_{c} ON records.{c} = common_{c}.{c}" for c in constraints.personal)
    engine.create("personal", f"SELECT {kept} FROM records {joins}")
    engine.create("records", "SELECT * FROM personal")


def _hear_once(engine: Engine, settings: Settings, run: Run) -> None:
    """Adds to `records` which record each `says` the same as: the first of all customers' where a rule joins those, and
    itself otherwise. The others are joined with that one, whatever a constraint says of how many share a value, and are in no
    other comparison. One of whom a person spoke says something of its own."""
    telling = content_rules(rules_of(settings.model_dump()))
    holds = " OR ".join(f"({' AND '.join(f'r.{column} IS NOT NULL' for column in rule.equal)})" for rule in telling)
    engine.create(
        "heard",
        f"""SELECT r.*, CASE WHEN spoken.id IS NULL AND ({holds or "false"})
                THEN min(r.id) OVER (PARTITION BY {", ".join(f"r.{column}" for column in SAID)}) ELSE r.id END AS says
            FROM records r LEFT JOIN spoken ON spoken.id = r.id""",
    )
    engine.create("records", "SELECT * FROM heard")
    [(run.counts["echoes"],)] = engine.rows("SELECT count(*) FROM records WHERE id <> says")


def _keys(engine: Engine, settings: Settings) -> None:
    """Adds to `records` what pairs must share for a rule (rule_0, …) or to be scored (block_0, …): null where a part is
    missing, and where more than a constraint allows have the same; of a rule as many records as there are of a customer who
    says ever other things, of whom those beyond the constraint have the first of them instead (rule_0_hub, …)."""
    rules = [(f"rule_{n}", rule.equal) for n, rule in enumerate(settings.rules)]
    blocks = [(f"block_{n}", block.equal) for n, block in enumerate(settings.blocking)]
    keys = []
    for name, parts in (*rules, *blocks):
        key = " || chr(31) || ".join(scoring.key_sql(part) for part in parts)
        of_all = name.startswith("rule") and {*parts} & {*IDENTITY}
        keys.append(f"{key if of_all else f'CASE WHEN id = says THEN {key} END'} AS {name}")
    engine.create("keyed", f"SELECT *, {', '.join(keys)} FROM records")
    most = settings.constraints.max_rule_block
    for name, _ in rules:
        engine.create(
            f"shared_{name}",
            f"""SELECT {name}, min(id) AS hub, count(*) AS records FROM keyed WHERE {name} IS NOT NULL GROUP BY {name}
                HAVING count(*) > 1 AND least({_PEOPLE}) <= {most}""",
        )
    for (name, _), block in zip(blocks, settings.blocking, strict=True):
        engine.create(
            f"shared_{name}",
            f"""SELECT {name} FROM keyed WHERE {name} IS NOT NULL GROUP BY {name}
                HAVING count(*) BETWEEN 2 AND {block.at_most}""",
        )
    usable = [f"CASE WHEN shared_{n}.records <= {most} THEN shared_{n}.{n} END AS {n}" for n, _ in rules]
    usable += [f"CASE WHEN shared_{n}.records > {most} THEN shared_{n}.hub END AS {n}_hub" for n, _ in rules]
    usable += [f"shared_{n}.{n} AS {n}" for n, _ in blocks]
    joins = " ".join(f"LEFT JOIN shared_{n} ON keyed.{n} = shared_{n}.{n}" for n, _ in (*rules, *blocks))
    kept = ", ".join(f"keyed.{column}" for column in engine.columns("records"))
    engine.create("records", f"SELECT {kept}, {', '.join(usable)} FROM keyed {joins}")
    scoring.count_terms(engine, settings)


_PEOPLE = "count(DISTINCT says), count(DISTINCT source || chr(31) || customer_id)"
"""As dedup.matching.people: each number of them."""


def _without_needless_constraints(engine: Engine, settings: Settings, run: Run) -> Settings:
    """The settings, without the constraints that keep a household apart where these records show that there are none."""
    constraints = settings.constraints
    [(pairs, different)] = engine.rows(
        f"""SELECT count(*), coalesce(sum(CASE WHEN l.root <> r.root AND levenshtein(l.date_of_birth, r.date_of_birth) > 2
                AND {engine.jaro_winkler}(l.given, r.given) < {ALIKE} THEN 1 ELSE 0 END), 0)
            FROM (SELECT address, postcode, family FROM records GROUP BY address, postcode, family
                  HAVING count(*) BETWEEN 2 AND {constraints.max_entity}) AS home
            JOIN records l ON l.address = home.address AND l.postcode = home.postcode AND l.family = home.family
            JOIN records r ON r.address = home.address AND r.postcode = home.postcode AND r.family = home.family
            WHERE l.id < r.id AND l.given IS NOT NULL AND r.given IS NOT NULL
                AND l.date_of_birth IS NOT NULL AND r.date_of_birth IS NOT NULL"""
    )
    run.counts |= {"home_pairs": pairs, "home_pairs_of_two_people": int(different)}
    if pairs < constraints.households.from_pairs or different >= constraints.households.at_least * pairs:
        return settings
    run.waived = ("vetoes", "contradictions")
    return settings.model_copy(update={"constraints": constraints.model_copy(update=dict.fromkeys(run.waived, ()))})


def _said(engine: Engine, decisions: Decisions) -> None:
    rows = [(*pair, "same") for pair in decisions.same] + [(*pair, "different") for pair in decisions.different]
    columns = list(zip(*sorted(rows), strict=True)) or [(), (), ()]
    kinds = (pa.int64(), pa.int64(), pa.string())
    arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
    engine.fill("decision", pa.table(arrays, names=["id_l", "id_r", "decision"]))


def _rule_edges(engine: Engine, settings: Settings) -> None:
    queries = ["SELECT CAST(0 AS bigint) AS id_l, CAST(0 AS bigint) AS id_r, CAST(0 AS int) AS place WHERE 1 = 0"]
    rules = rules_of(settings.model_dump())
    telling = content_rules(rules)
    for place, rule in enumerate(rules):
        conflicts = "".join(f" AND coalesce(l.{c} = r.{c}, true)" for c in rule.unless_different)
        for pair in (f"l.rule_{place} = r.rule_{place}", f"l.id = r.rule_{place}_hub"):
            queries.append(
                f"SELECT l.id, r.id, {place} FROM records l JOIN records r ON {pair} WHERE l.id < r.id{conflicts}"
            )
        if rule in telling:
            holds = " AND ".join(f"{column} IS NOT NULL" for column in rule.equal)
            queries.append(f"SELECT says, id, {place} FROM records WHERE id <> says AND {holds}")
    engine.create("rule_edge", " UNION ALL ".join(queries))


def _default() -> Model | None:
    return Model.load() if DEFAULT_MODEL.is_file() else None


def _start(settings: Settings, run: Run, given: Model | None) -> Model:
    """What is known before these records teach anything."""
    prior = scoring.first_prior(settings, run.compared, run.counts["rule_pairs"])
    return (given or _default() or Model(prior=prior, comparisons={}, records=0)).model_copy(update={"prior": prior})


def _score(engine: Engine, settings: Settings, run: Run, given: Model | None) -> tuple[Model, Linker]:
    records = run.counts["records"]
    default = _default()
    with run.step("train"):
        start = _start(settings, run, given)
        run.trained = given is None and (records >= settings.training.from_records or default is None)
        used = scoring.train(engine, settings, start, records).leaning_on(default, settings) if run.trained else start
        made = scoring.linker(engine, settings, used, records)
    with run.step("score"):
        scoring.score(made, engine, settings, "model_edge")
        prior = scoring.settle_prior(engine, "model_edge", used.prior, run.compared)
        used = used.model_copy(update={"prior": prior})
        # Pairs that are scored later get the same prior.
        made = scoring.linker(engine, settings, used, records)
        [(run.counts["scored_pairs"],)] = engine.rows("SELECT count(*) FROM model_edge")
    return used, made


def _accepted(settings: Settings) -> str:
    """The edges that join records, each with its strength, binding ones marked."""
    return f"""
        SELECT e.id_l, e.id_r, max(e.strength) AS strength, max(e.binding) AS binding FROM (
            SELECT id_l, id_r, CAST({STRONGEST} - place AS double) AS strength, 0 AS binding FROM rule_edge
            UNION ALL SELECT id_l, id_r, match_weight, 0 FROM model_edge
                      WHERE match_weight >= {settings.thresholds.match} AND veto IS NULL
            UNION ALL SELECT d.id_l, d.id_r, CAST({STRONGEST} AS double), 1 FROM decision d
                      JOIN records l ON l.id = d.id_l JOIN records r ON r.id = d.id_r WHERE d.decision = 'same'
        ) AS e LEFT JOIN decision d ON d.id_l = e.id_l AND d.id_r = e.id_r AND d.decision = 'different'
        WHERE d.id_l IS NULL GROUP BY e.id_l, e.id_r"""


def _cluster(engine: Engine, settings: Settings, run: Run, linker: Linker | None) -> pa.Table:
    """Makes `cluster` (id, cluster): connected components of the accepted edges, those that a constraint looks into taken
    apart where they must be. The edges that constraints refused."""
    engine.create("accepted", _accepted(settings))
    engine.create("linked", "SELECT id_l AS id FROM accepted UNION SELECT id_r FROM accepted")
    components = cluster_pairwise_predictions_at_threshold(
        engine.splink.register("linked"), engine.splink.register("accepted"), engine.splink, node_id_column_name="id"
    )
    engine.create("component", f"SELECT id, cluster_id AS cluster FROM {components.physical_name}")
    constraints = settings.constraints
    engine.create(
        "suspect",
        f"""SELECT c.cluster FROM component c JOIN records r ON r.id = c.id GROUP BY c.cluster
            HAVING least({_PEOPLE}) > {constraints.max_entity}
                OR count(DISTINCT r.date_of_birth) > 1 OR count(DISTINCT r.root) > 1
                OR count(DISTINCT r.formal) > 1
            UNION SELECT l.cluster FROM decision d JOIN component l ON l.id = d.id_l
            JOIN component r ON r.id = d.id_r AND r.cluster = l.cluster WHERE d.decision = 'different'""",
    )
    if linker:
        _score_rest(engine, settings, linker)
    facts: dict[int, dict[int, Facts]] = defaultdict(dict)
    customer = "r.source || chr(31) || r.customer_id" if _identity_rule(settings) else "CAST(NULL AS string)"
    for cluster, record, *known in engine.rows(
        f"""SELECT c.cluster, c.id, r.date_of_birth, r.given, r.family, r.root, r.formal, {customer}, r.says
           FROM suspect s JOIN component c ON c.cluster = s.cluster JOIN records r ON r.id = c.id"""
    ):
        facts[cluster][record] = Facts(*known)
    edges: dict[int, list[Edge]] = defaultdict(list)
    for cluster, left, right, strength, binding in engine.rows(
        """SELECT c.cluster, a.id_l, a.id_r, a.strength, a.binding FROM suspect s
           JOIN component c ON c.cluster = s.cluster JOIN accepted a ON a.id_l = c.id"""
    ):
        edges[cluster].append(Edge((left, right), strength, bool(binding)))
    apart = {(a, b) for a, b in engine.rows("SELECT id_l, id_r FROM decision WHERE decision = 'different'")}
    new: list[tuple[int, int]] = []
    refused: list[tuple[int, int, str]] = []
    for cluster, members in facts.items():
        found, not_joined = resolve(
            members,
            edges[cluster],
            {(a, b) for a, b in apart if a in members and b in members} if apart else set(),
            max_entity=constraints.max_entity,
            contradictions=constraints.contradictions,
        )
        new += [(record, min(group)) for group in found for record in group]
        refused += [(*item.pair, item.constraint_name) for item in not_joined]
    run.counts |= {"guarded_clusters": len(facts), "refused_edges": len(refused)}
    engine.fill("resolved", _table(new, {"id": pa.int64(), "cluster": pa.int64()}))
    # Everyone else is alone, or goes where what they repeat goes.
    engine.create(
        "cluster",
        """SELECT a.id, coalesce(g.cluster, c.cluster, p.repeat_of, a.id) AS cluster FROM everyone a
           LEFT JOIN repeat p ON p.id = a.id LEFT JOIN component c ON c.id = coalesce(p.repeat_of, a.id)
           LEFT JOIN resolved g ON g.id = coalesce(p.repeat_of, a.id)""",
    )
    return _table(refused, {"id_l": pa.int64(), "id_r": pa.int64(), "constraint_name": pa.string()})


def _score_rest(engine: Engine, settings: Settings, linker: Linker) -> None:
    """Scores the pairs of suspect clusters that no block brought together, and accepts the matches among them: a
    contradiction that the model has weighed is none."""
    engine.create(
        "rest",
        f"""WITH member AS (
            SELECT c.id, c.cluster FROM suspect s JOIN component c ON c.cluster = s.cluster
            JOIN records r ON r.id = c.id AND r.id = r.says
            WHERE s.cluster IN (SELECT cluster FROM component GROUP BY cluster HAVING count(*) <= {settings.constraints.max_entity})
        ) SELECT l.id AS id_l, r.id AS id_r FROM member l JOIN member r ON l.cluster = r.cluster AND l.id < r.id
        LEFT JOIN model_edge m ON m.id_l = l.id AND m.id_r = r.id WHERE m.id_l IS NULL""",
    )
    [(found,)] = engine.rows("SELECT count(*) FROM rest")
    if not found:
        return
    scoring.score(linker, engine, settings, "rest_edge", pairs="rest")
    engine.create("all_edge", "SELECT * FROM model_edge UNION ALL SELECT * FROM rest_edge")
    engine.create("model_edge", "SELECT * FROM all_edge")
    engine.create("accepted", _accepted(settings))


def _table(rows: list[Any], schema: dict[str, pa.DataType]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(c, kind) for c, kind in zip(columns, schema.values(), strict=True)], names=[*schema])


def _keep_ids(engine: Engine, previous: str | None, first_id: int) -> None:
    """Makes `entity` (record_id, entity_id) of `cluster`. Says in SQL what dedup.matching.clustering.keep_ids says in Python."""
    engine.create("former", _former(engine, previous))
    engine.create(
        "kept",
        """WITH shared AS (
            SELECT c.cluster, f.entity_id, count(*) AS records, sum(count(*)) OVER (PARTITION BY f.entity_id) AS remaining
            FROM cluster c JOIN former f ON f.record_id = c.id GROUP BY c.cluster, f.entity_id
        ), ranked AS (
            SELECT cluster, entity_id, row_number() OVER (PARTITION BY cluster ORDER BY records DESC, entity_id) AS place
            FROM shared WHERE 2 * records > remaining
        ) SELECT cluster, entity_id FROM ranked WHERE place = 1""",
    )
    engine.create(
        "named",
        f"""SELECT cluster, entity_id FROM kept UNION ALL
            SELECT n.cluster, n.place + greatest({first_id} - 1, (SELECT coalesce(max(entity_id), 0) FROM former)) FROM (
                SELECT c.cluster, row_number() OVER (ORDER BY min(c.id)) AS place FROM cluster c
                LEFT JOIN kept k ON k.cluster = c.cluster WHERE k.cluster IS NULL GROUP BY c.cluster) AS n""",
    )
    engine.create(
        "entity", "SELECT c.id AS record_id, n.entity_id FROM cluster c JOIN named n ON n.cluster = c.cluster"
    )


def _former(engine: Engine, previous: str | None) -> str:
    if not previous:
        return "SELECT CAST(0 AS bigint) AS record_id, CAST(0 AS bigint) AS entity_id WHERE 1 = 0"
    table = f"read_parquet('{previous}')" if engine.name == "duckdb" else f"parquet.`{previous}`"
    return f"SELECT record_id, entity_id FROM {table}"


def _write(engine: Engine, settings: Settings, output: str, refused: pa.Table) -> None:
    thresholds = settings.thresholds
    identity = _identity_rule(settings)
    rules = " ".join(f"WHEN {place} THEN '{rule.name}'" for place, rule in enumerate(settings.rules))
    engine.fill("refused", refused)
    engine.create(
        "edge",
        f"""SELECT id_l AS record_l, id_r AS record_r, 'rule' AS reason, CASE place {rules} END AS rule,
                CAST(NULL AS double) AS match_weight, CAST(NULL AS double) AS match_probability,
                CAST(NULL AS string) AS waterfall, true AS joins FROM rule_edge
            UNION ALL SELECT repeat_of, id, 'rule', '{identity.name if identity else ""}', NULL, NULL, NULL, true FROM repeat
            UNION ALL SELECT id_l, id_r, 'decision', decision, NULL, NULL, NULL, decision = 'same' FROM decision
            UNION ALL SELECT id_l, id_r, 'model', NULL, match_weight, match_probability, waterfall,
                veto IS NULL AND match_weight >= {thresholds.match} FROM model_edge
            WHERE match_weight >= {thresholds.review}""",
    )
    engine.save("SELECT record_id, entity_id FROM entity ORDER BY entity_id, record_id", f"{output}/entities.parquet")
    engine.save("SELECT * FROM edge ORDER BY record_l, record_r, reason, rule", f"{output}/edges.parquet")
    forms = ", ".join(f"r.{column}" for column in COLUMNS)
    engine.save(
        f"""SELECT e.record_id, e.entity_id, a.source, a.customer_id, {forms} FROM entity e
            JOIN everyone a ON a.id = e.record_id LEFT JOIN records r ON r.id = e.record_id""",
        f"{output}/members.parquet",
    )
    engine.save(_terms(settings), f"{output}/terms.parquet")
    engine.save(
        """SELECT CAST(floor(match_weight) AS int) AS match_weight, count(*) AS pairs FROM model_edge
           GROUP BY 1 ORDER BY 1""",
        f"{output}/histogram.parquet",
    )
    # A person has spoken of some pairs, and a rule of others: neither is asked about, unless a constraint stood against it.
    # Where the evidence contradicts itself nothing is certain, whatever the weight.
    engine.save(
        f"""SELECT * FROM (
            SELECT m.id_l AS record_l, m.id_r AS record_r, m.match_weight, m.match_probability, m.waterfall,
                   coalesce(f.constraint_name, m.veto, m.review_flag) AS constraint_name,
                   CASE WHEN coalesce(f.constraint_name, m.veto, m.review_flag) IS NULL THEN 1 - abs(2 * m.match_probability - 1)
                        ELSE 1 END AS uncertainty
            FROM model_edge m LEFT JOIN refused f ON f.id_l = m.id_l AND f.id_r = m.id_r
            LEFT JOIN decision d ON d.id_l = m.id_l AND d.id_r = m.id_r
            LEFT JOIN (SELECT DISTINCT id_l, id_r FROM rule_edge) e ON e.id_l = m.id_l AND e.id_r = m.id_r
            WHERE d.id_l IS NULL AND (f.id_l IS NOT NULL OR (e.id_l IS NULL AND m.match_weight >= {thresholds.review}
                  AND (m.veto IS NOT NULL OR m.review_flag IS NOT NULL OR m.match_weight <= {thresholds.confident})))
            UNION ALL
            SELECT f.id_l, f.id_r, NULL, NULL, NULL, f.constraint_name, CAST(1 AS double) FROM refused f
            LEFT JOIN model_edge m ON f.id_l = m.id_l AND f.id_r = m.id_r
            LEFT JOIN decision d ON d.id_l = f.id_l AND d.id_r = f.id_r
            WHERE m.id_l IS NULL AND d.id_l IS NULL
        ) AS pairs ORDER BY uncertainty DESC, record_l, record_r""",
        f"{output}/review.parquet",
    )


def _terms(settings: Settings) -> str:
    queries = [
        "SELECT CAST('' AS string) AS field, CAST('' AS string) AS value, CAST(0 AS bigint) AS records WHERE 1 = 0"
    ]
    for name in term_columns(settings.model_dump()):
        queries.append(f"SELECT '{name}', NULL, count({name}) FROM records")
        queries.append(
            f"SELECT '{name}', {name}, count(*) FROM records WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1"
        )
    return " UNION ALL ".join(queries)


def main(arguments: list[str] | None = None) -> int:
    """The command line. 0 when the run was finished, 2 for an input that can't be matched."""
    parser = argparse.ArgumentParser(
        "jobs.match", description="Finds which records are one person, and says why. All may be s3://BUCKET/KEY."
    )
    parser.add_argument("input", help="records: a Parquet, CSV or JSON file, or a folder of Parquet files")
    parser.add_argument("output", help="the folder to write to")
    parser.add_argument("--engine", choices=ENGINES, default="duckdb")
    parser.add_argument("--settings")
    parser.add_argument("--model", help="a model.json to use as it is, instead of learning one")
    parser.add_argument("--previous", help="entities.parquet of an earlier run, to keep its entity ids")
    parser.add_argument("--decisions", help='JSON lines: {"records": [1, 2], "decision": "same"}')
    parser.add_argument("--first-id", type=int, default=1, help="of new entities")
    parser.add_argument("--memory", default="4GB", help="what the engine may take")
    asked = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        with Scratch("match-") as scratch:
            run = _run(asked, Path(scratch))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(run.summary(), indent=2))
    return 0


def _run(asked: argparse.Namespace, scratch: Path) -> Run:
    def here(place: str | None) -> Path | None:
        return storage.fetched(place, scratch) if place else None

    def tables(place: str | None) -> str | None:
        return place if storage.SUBMITTED or not place else str(storage.fetched(place, scratch))

    decisions, settings, model = here(asked.decisions), here(asked.settings), here(asked.model)
    lines = decisions.read_text().splitlines() if decisions else []
    # A Spark that was not submitted has no file system for S3: what it writes is sent there afterwards.
    sent = asked.output.startswith(storage.S3) and not storage.SUBMITTED
    output = str(scratch / "found") if sent else asked.output
    options = {"scratch": f"{asked.output}-scratch"} if storage.SUBMITTED else {"memory": asked.memory}
    with ENGINES[asked.engine](**options) as engine:
        run = match(
            engine,
            str(tables(asked.input)),
            output,
            Settings.load(settings or DEFAULT),
            decisions=Decisions.of([json.loads(line) for line in lines if line.strip()]),
            previous=tables(asked.previous),
            model=Model.load(model) if model else None,
            first_id=asked.first_id,
        )
    if sent:
        storage.send(Path(output), asked.output)
    return run


if __name__ == "__main__":
    sys.exit(main())
