"""The output of a matching, a folder:

entities.parquet    record_id, entity_id
edges.parquet       record_l, record_r, reason (decision, rule, model), rule, match_weight, match_probability,
                    waterfall, joins: whether the edge was accepted, veto, review_flag, remaining: the pair was scored
                    only because both records were in one component
members.parquet     record_id, entity_id, source, customer_id, normalised values; common: those of them that are null
                    because too many people share them (preparation.without_common_values); representative: of an exact
                    duplicate of the same customer, which has no values
terms.parquet       the model version's term frequencies: field, value, records: number of records with the value, if
                    several have it; without a value, the number of records with any
review.parquet      pairs for clerical review, the most uncertain first: record_l, record_r, match_weight,
                    match_probability, waterfall, constraint_name, uncertainty
histogram.parquet   match_weight (lower bound), pairs
model.json          the rest of the model version; a later run uses both with --model
settings.json       the settings
run.json            counts, seconds of each step, versions; written last
"""

import json
from pathlib import Path

from dedup.matching.normalise import COLUMNS
from dedup.matching.settings import Settings

from jobs import storage
from jobs.matching.engine import Engine
from jobs.matching.model import Model
from jobs.matching.preparation import identity_rule_of
from jobs.matching.summary import Summary

EDGE_ROWS = """SELECT record_l, record_r, rule, match_weight, match_probability, waterfall, joins, veto, review_flag,
    remaining FROM"""
"""What is stored of the edges, in the order of dedup.store.matching.run_tables.EDGE_COLUMNS."""

REVIEW_ROWS = """SELECT record_l, record_r, match_weight, match_probability, waterfall, constraint_name, uncertainty
    FROM"""
"""The same of the review pairs, in the order of REVIEW_COLUMNS."""

MODEL, TERMS = "model.json", "terms.parquet"
"""The files of a model version."""


def write_tables(engine: Engine, settings: Settings, output: str) -> None:
    """Writes the Parquet files to a folder, which is created, or to below an s3:// prefix."""
    if not output.startswith(storage.S3):
        Path(output).mkdir(parents=True, exist_ok=True)
    engine.create("edge", edges(settings, rules="rule_edge", scored="model_edge", duplicates="customer_duplicate"))
    engine.save("SELECT record_id, entity_id FROM entity ORDER BY entity_id, record_id", f"{output}/entities.parquet")
    engine.save("SELECT * FROM edge ORDER BY record_l, record_r, reason, rule", f"{output}/edges.parquet")
    normalised = ", ".join(f"r.{column}" for column in COLUMNS)
    engine.save(
        f"""SELECT e.record_id, e.entity_id, a.source, a.customer_id, {normalised}, r.common, d.representative
            FROM entity e JOIN all_record a ON a.id = e.record_id LEFT JOIN records r ON r.id = e.record_id
            LEFT JOIN customer_duplicate d ON d.id = e.record_id""",
        f"{output}/members.parquet",
    )
    engine.save("SELECT field, value, records FROM term ORDER BY field, value", f"{output}/{TERMS}")
    engine.save(
        """SELECT CAST(floor(match_weight) AS int) AS match_weight, count(*) AS pairs FROM model_edge
           GROUP BY 1 ORDER BY 1""",
        f"{output}/histogram.parquet",
    )
    engine.save(review(settings), f"{output}/review.parquet")


def write_model(output: str, model: Model, settings: Settings) -> None:
    """Writes model.json and settings.json. `settings`: as they were given, including constraints that were waived."""
    storage.write(f"{output}/{MODEL}", model.text())
    storage.write(f"{output}/settings.json", settings.model_dump_json(indent=2) + "\n")


def write_summary(output: str, summary: Summary) -> None:
    """Writes run.json. It comes last: a folder with this file is complete."""
    storage.write(f"{output}/run.json", json.dumps(summary.content(), indent=2) + "\n")


def edges(settings: Settings, *, rules: str, scored: str, duplicates: str) -> str:
    """A query for the edges, as in edges.parquet, of match rules, scored pairs, and customer duplicates: the names of
    tables like rule_edge, model_edge and customer_duplicate, or queries in parentheses; and those of `decision`."""
    thresholds = settings.thresholds
    identity = identity_rule_of(settings)
    names = " ".join(f"WHEN {rank} THEN '{rule.name}'" for rank, rule in enumerate(settings.rules))
    return f"""SELECT id_l AS record_l, id_r AS record_r, 'rule' AS reason, CASE rank {names} END AS rule,
            CAST(NULL AS double) AS match_weight, CAST(NULL AS double) AS match_probability,
            CAST(NULL AS string) AS waterfall, true AS joins, CAST(NULL AS string) AS veto,
            CAST(NULL AS string) AS review_flag, false AS remaining FROM {rules} AS r
        UNION ALL SELECT representative, id, 'rule', '{identity.name if identity else ""}', NULL, NULL, NULL, true,
            NULL, NULL, false FROM {duplicates} AS d
        UNION ALL SELECT id_l, id_r, 'decision', decision, NULL, NULL, NULL, decision = 'same', NULL, NULL, false
            FROM decision
        UNION ALL SELECT id_l, id_r, 'model', NULL, match_weight, match_probability, waterfall,
            veto IS NULL AND match_weight >= {thresholds.match}, veto, review_flag, remaining FROM {scored} AS m
        WHERE match_weight >= {thresholds.review}"""


def review(settings: Settings) -> str:
    """A query for the pairs to review.

    Pairs that a decision or a rule joins are not reviewed, unless a constraint refused the edge. If a constraint or
    a review flag applies, the evidence contradicts itself: the pair is uncertain whatever its weight. A weight below
    `review` is not shown: only a full run knows it."""
    thresholds = settings.thresholds
    return f"""WITH known AS (SELECT * FROM model_edge WHERE match_weight >= {thresholds.review})
        SELECT * FROM (
        SELECT m.id_l AS record_l, m.id_r AS record_r, m.match_weight, m.match_probability, m.waterfall,
               coalesce(f.constraint_name, m.veto, m.review_flag) AS constraint_name,
               CASE WHEN coalesce(f.constraint_name, m.veto, m.review_flag) IS NULL
                    THEN 1 - abs(2 * m.match_probability - 1) ELSE 1 END AS uncertainty
        FROM known m LEFT JOIN refused f ON f.id_l = m.id_l AND f.id_r = m.id_r
        LEFT JOIN decision d ON d.id_l = m.id_l AND d.id_r = m.id_r
        LEFT JOIN (SELECT DISTINCT id_l, id_r FROM rule_edge) e ON e.id_l = m.id_l AND e.id_r = m.id_r
        WHERE d.id_l IS NULL AND (f.id_l IS NOT NULL OR (e.id_l IS NULL
              AND (m.veto IS NOT NULL OR m.review_flag IS NOT NULL OR m.match_weight <= {thresholds.confident})))
        UNION ALL
        SELECT f.id_l, f.id_r, NULL, NULL, NULL, f.constraint_name, CAST(1 AS double) FROM refused f
        LEFT JOIN known m ON f.id_l = m.id_l AND f.id_r = m.id_r
        LEFT JOIN decision d ON d.id_l = f.id_l AND d.id_r = f.id_r
        WHERE m.id_l IS NULL AND d.id_l IS NULL
    ) AS pairs ORDER BY uncertainty DESC, record_l, record_r"""
