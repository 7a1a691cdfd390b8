"""Edges: pairs of records that a match rule, the match model or a decision joins."""

from dedup.matching.clustering import STRONGEST
from dedup.matching.rules import content_rules, rules_of
from dedup.matching.settings import Settings

from jobs.matching.engine import Engine

NO_MODEL_EDGES = """SELECT CAST(0 AS bigint) AS id_l, CAST(0 AS bigint) AS id_r, CAST(0 AS double) AS evidence,
    CAST(0 AS double) AS match_weight, CAST(0 AS double) AS match_probability, CAST('' AS string) AS veto,
    CAST('' AS string) AS review_flag, CAST('' AS string) AS waterfall, false AS remaining WHERE 1 = 0"""
"""An empty table `model_edge`, as jobs.matching.scoring.score makes it."""


def create_rule_edges(engine: Engine, settings: Settings) -> None:
    """Makes `rule_edge` (id_l, id_r, rank): a row for every match rule that joins a pair. `rank`: the rule's position,
    0 for the strongest."""
    queries = ["SELECT CAST(0 AS bigint) AS id_l, CAST(0 AS bigint) AS id_r, CAST(0 AS int) AS rank WHERE 1 = 0"]
    rules = rules_of(settings.model_dump())
    of_content = content_rules(rules)
    for rank, rule in enumerate(rules):
        conflicts = "".join(f" AND coalesce(l.{c} = r.{c}, true)" for c in rule.unless_different)
        for pair in (f"l.rule_{rank} = r.rule_{rank}", f"l.id = r.rule_{rank}_hub"):
            queries.append(
                f"SELECT l.id, r.id, {rank} FROM records l JOIN records r ON {pair} WHERE l.id < r.id{conflicts}"
            )
        if rule in of_content:
            applies = " AND ".join(f"{column} IS NOT NULL" for column in rule.equal)
            queries.append(f"SELECT representative, id, {rank} FROM records WHERE id <> representative AND {applies}")
    engine.create("rule_edge", " UNION ALL ".join(queries))


def create_accepted_edges(engine: Engine, settings: Settings) -> None:
    """Makes `accepted` (id_l, id_r, strength, binding): the pairs that are to be joined. Decisions are binding."""
    engine.create(
        "accepted",
        f"""SELECT e.id_l, e.id_r, max(e.strength) AS strength, max(e.binding) AS binding FROM (
                SELECT id_l, id_r, CAST({STRONGEST} - rank AS double) AS strength, 0 AS binding FROM rule_edge
                UNION ALL SELECT id_l, id_r, match_weight, 0 FROM model_edge
                          WHERE match_weight >= {settings.thresholds.match} AND veto IS NULL
                UNION ALL SELECT d.id_l, d.id_r, CAST({STRONGEST} AS double), 1 FROM decision d
                          JOIN records l ON l.id = d.id_l JOIN records r ON r.id = d.id_r WHERE d.decision = 'same'
            ) AS e LEFT JOIN decision d ON d.id_l = e.id_l AND d.id_r = e.id_r AND d.decision = 'different'
            WHERE d.id_l IS NULL GROUP BY e.id_l, e.id_r""",
    )
