"""Clusters of the accepted edges under the constraints, and their entity ids."""

from collections import defaultdict
from collections.abc import Callable

import pyarrow as pa
from dedup.matching.clustering import Edge, Facts, Pair, resolve
from dedup.matching.settings import Settings
from splink import Linker
from splink.clustering import cluster_pairwise_predictions_at_threshold

from jobs.matching import scoring
from jobs.matching.edges import create_accepted_edges
from jobs.matching.engine import Engine, arrow_table, parquet_table
from jobs.matching.preparation import PEOPLE, identity_rule_of
from jobs.matching.summary import Summary


def create_clusters(engine: Engine, settings: Settings, summary: Summary, linker: Callable[[], Linker] | None) -> None:
    """Makes `cluster` (id, cluster): the connected components of the accepted edges, split if constraints require it;
    and `refused` (id_l, id_r, constraint_name): the edges that a constraint refused. `linker`: gives one that scores
    pairs inside components, None if matching uses no model."""
    create_components(engine, settings)
    _create_constrained(engine, settings)
    if linker:
        _score_remaining_pairs(engine, settings, linker)
    _resolve(engine, settings, summary)
    # Records without an edge are clusters of their own; exact duplicates are in the cluster of their representative.
    engine.create(
        "cluster",
        """SELECT a.id, coalesce(s.cluster, c.cluster, d.representative, a.id) AS cluster FROM all_record a
           LEFT JOIN customer_duplicate d ON d.id = a.id
           LEFT JOIN component c ON c.id = coalesce(d.representative, a.id)
           LEFT JOIN resolved s ON s.id = coalesce(d.representative, a.id)""",
    )


def create_components(engine: Engine, settings: Settings) -> None:
    """Makes `component` (id, cluster): the connected components of the accepted edges."""
    create_accepted_edges(engine, settings)
    engine.create("linked", "SELECT id_l AS id FROM accepted UNION SELECT id_r FROM accepted")
    components = cluster_pairwise_predictions_at_threshold(
        engine.splink.register("linked"), engine.splink.register("accepted"), engine.splink, node_id_column_name="id"
    )
    engine.create("component", f"SELECT id, cluster_id AS cluster FROM {components.physical_name}")


def _create_constrained(engine: Engine, settings: Settings) -> None:
    """Makes `constrained` (cluster): the components that may violate a constraint."""
    engine.create(
        "constrained",
        f"""SELECT c.cluster FROM component c JOIN records r ON r.id = c.id GROUP BY c.cluster
            HAVING {PEOPLE} > {settings.constraints.max_entity}
                OR count(DISTINCT r.date_of_birth) > 1 OR count(DISTINCT r.root) > 1
                OR count(DISTINCT r.formal) > 1
            UNION SELECT l.cluster FROM decision d JOIN component l ON l.id = d.id_l
            JOIN component r ON r.id = d.id_r AND r.cluster = l.cluster WHERE d.decision = 'different'""",
    )


def _score_remaining_pairs(engine: Engine, settings: Settings, linker: Callable[[], Linker]) -> None:
    """Scores the pairs of constrained components that no blocking rule found, and accepts the matches among them: a
    contradiction that the model has scored does not refuse an edge."""
    engine.create(
        "remaining_pair",
        f"""WITH member AS (
            SELECT c.id, c.cluster FROM constrained s JOIN component c ON c.cluster = s.cluster
            JOIN records r ON r.id = c.id AND r.id = r.representative
            WHERE s.cluster IN (SELECT cluster FROM component GROUP BY cluster
                                HAVING count(*) <= {settings.constraints.max_entity})
        ) SELECT l.id AS id_l, r.id AS id_r FROM member l JOIN member r ON l.cluster = r.cluster AND l.id < r.id
        LEFT JOIN model_edge m ON m.id_l = l.id AND m.id_r = r.id WHERE m.id_l IS NULL""",
    )
    [(found,)] = engine.rows("SELECT count(*) FROM remaining_pair")
    if not found:
        return
    scoring.score(linker(), engine, settings, "remaining_edge", pairs="remaining_pair", remaining=True)
    engine.create("all_edge", "SELECT * FROM model_edge UNION ALL SELECT * FROM remaining_edge")
    engine.create("model_edge", "SELECT * FROM all_edge")
    create_accepted_edges(engine, settings)


def _resolve(engine: Engine, settings: Settings, summary: Summary) -> None:
    """Applies the constraints to the constrained components. Makes `resolved` (id, cluster) and `refused`."""
    facts = _facts(engine, settings)
    edges: dict[int, list[Edge]] = defaultdict(list)
    for cluster, left, right, strength, binding in engine.rows(
        """SELECT c.cluster, a.id_l, a.id_r, a.strength, a.binding FROM constrained s
           JOIN component c ON c.cluster = s.cluster JOIN accepted a ON a.id_l = c.id"""
    ):
        edges[cluster].append(Edge((left, right), strength, bool(binding)))
    different: set[Pair] = {
        (a, b) for a, b in engine.rows("SELECT id_l, id_r FROM decision WHERE decision = 'different'")
    }
    resolved: list[tuple[int, int]] = []
    refused: list[tuple[int, int, str]] = []
    constraints = settings.constraints
    for cluster, members in facts.items():
        groups, not_joined = resolve(
            members,
            edges[cluster],
            {(a, b) for a, b in different if a in members and b in members} if different else set(),
            max_entity=constraints.max_entity,
            contradictions=constraints.contradictions,
        )
        resolved += [(record, min(group)) for group in groups for record in group]
        refused += [(*item.pair, item.constraint_name) for item in not_joined]
    summary.counts |= {"constrained_clusters": len(facts), "refused_edges": len(refused)}
    engine.fill("resolved", arrow_table(resolved, {"id": pa.int64(), "cluster": pa.int64()}))
    engine.fill(
        "refused", arrow_table(refused, {"id_l": pa.int64(), "id_r": pa.int64(), "constraint_name": pa.string()})
    )


def _facts(engine: Engine, settings: Settings) -> dict[int, dict[int, Facts]]:
    """What the constraints need to know of the records of each constrained component."""
    facts: dict[int, dict[int, Facts]] = defaultdict(dict)
    customer = "r.source || chr(31) || r.customer_id" if identity_rule_of(settings) else "CAST(NULL AS string)"
    for cluster, record, *known in engine.rows(
        f"""SELECT c.cluster, c.id, r.date_of_birth, r.given, r.family, r.root, r.formal, {customer}, r.representative
           FROM constrained s JOIN component c ON c.cluster = s.cluster JOIN records r ON r.id = c.id"""
    ):
        facts[cluster][record] = Facts(*known)
    return facts


def create_entities(engine: Engine, previous: str, first_id: int) -> None:
    """Makes `entity` (record_id, entity_id) from `cluster`. `previous`: a query for earlier ones. The id of an earlier
    entity goes to the cluster with most of its records; of several clusters with as many, to the one with the oldest
    record. A cluster that gets several keeps the one of which it has most records, the lowest of several. The others
    get new ids from `first_id` on, above those of `previous`, in the order of their oldest records."""
    engine.create("previous_entity", previous)
    engine.create(
        "kept",
        """WITH shared AS (
            SELECT c.cluster, p.entity_id, count(*) AS records, min(c.id) AS oldest
            FROM cluster c JOIN previous_entity p ON p.record_id = c.id GROUP BY c.cluster, p.entity_id
        ), heir AS (
            SELECT *, row_number() OVER (PARTITION BY entity_id ORDER BY records DESC, oldest) AS place FROM shared
        ), kept AS (
            SELECT *, row_number() OVER (PARTITION BY cluster ORDER BY records DESC, entity_id) AS preference
            FROM heir WHERE place = 1
        ) SELECT cluster, entity_id FROM kept WHERE preference = 1""",
    )
    engine.create(
        "entity_of_cluster",
        f"""SELECT cluster, entity_id FROM kept UNION ALL
            SELECT n.cluster,
                   n.number + greatest({first_id} - 1, (SELECT coalesce(max(entity_id), 0) FROM previous_entity))
            FROM (
                SELECT c.cluster, row_number() OVER (ORDER BY min(c.id)) AS number FROM cluster c
                LEFT JOIN kept k ON k.cluster = c.cluster WHERE k.cluster IS NULL GROUP BY c.cluster) AS n""",
    )
    engine.create(
        "entity",
        "SELECT c.id AS record_id, e.entity_id FROM cluster c JOIN entity_of_cluster e ON e.cluster = c.cluster",
    )


def previous_entities(engine: Engine, previous: str | None) -> str:
    """A query for the entities of an earlier entities.parquet; for none, if it is None."""
    if not previous:
        return "SELECT CAST(0 AS bigint) AS record_id, CAST(0 AS bigint) AS entity_id WHERE 1 = 0"
    return f"SELECT record_id, entity_id FROM {parquet_table(engine, previous)}"
