"""Trains the match model: `u` from random pairs, `m` by expectation maximisation (EM), and the prior."""

import math
import warnings
from typing import Any

from dedup.matching.scoring import SMALLEST, prior_weight
from dedup.matching.settings import Settings
from splink import Linker

from jobs.matching.engine import Engine
from jobs.matching.model import LevelWeights, Model
from jobs.matching.scoring import create_linker, probability_sql
from jobs.matching.summary import logger

PRIOR_STEPS = 20
"""Iterations of `settle_prior` at most."""


def train(engine: Engine, settings: Settings, start: Model, records: int) -> Model:
    """A model trained from the table `records`: `u` from random pairs, `m` by EM from pairs that agree in the columns
    of a training pass. `start`: the initial model; `records`: number of records of the whole matching."""
    training = settings.training
    # Not sampled by Splink: it uses a hash function of the engine, so that no two engines would train the same model.
    engine.create(
        "shuffled",
        f"""SELECT *, md5('{training.seed} ' || CAST(id AS string)) AS sample_key FROM records
            WHERE id = representative""",
    )
    engine.create("sampled", f"SELECT * FROM shuffled ORDER BY sample_key LIMIT {math.isqrt(2 * training.max_pairs)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random_pairs = create_linker(engine, settings, start, records, "sampled")
        random_pairs.training.estimate_u_using_random_sampling(max_pairs=training.max_pairs, num_chunks=1)
        start = read_model(random_pairs, records).shrunk_towards(start, settings)
        linker = create_linker(engine, settings, start, records, "shuffled")
        for columns in training.passes:
            found = _pairs_that_agree(engine, columns)
            if found < training.pass_needs_pairs:
                logger.info("Skipped the training pass on %s: only %d pairs", ", ".join(columns), found)
                continue
            agree = [f"l.{column} = r.{column}" for column in columns]
            if found > training.max_pairs:
                # The part of the records whose pairs are about max_pairs.
                limit = f"{int(math.sqrt(training.max_pairs / found) * 2**32):08x}"
                agree += [f"l.sample_key < '{limit}'", f"r.sample_key < '{limit}'"]
            linker.training.estimate_parameters_using_expectation_maximisation(" AND ".join(agree), max_pairs=None)
    return read_model(linker, records)


def estimate_prior(settings: Settings, records: int, pairs_by_rules: int) -> float:
    """An estimate of the prior from the match rules: the pairs that they join, divided by the recall that the settings
    assume for them, relative to all pairs. At least one match is assumed, because a prior of 0 has no match weight."""
    expected = max(pairs_by_rules, 1) / settings.training.recall_of_rules
    return min(expected / max(records * (records - 1) / 2, 1.0), 0.5)


def settle_prior(engine: Engine, settings: Settings, table: str, prior: float, records: int) -> float:
    """The prior under which the expected number of matches is the sum of the match probabilities of `table`, the scored
    pairs. This is EM for the prior, with `m` and `u` fixed.

    `prior`: the one that the pairs were scored with; `records`: number of records that the model compares."""
    pairs = max(records * (records - 1) / 2, 1.0)
    shift = 0.0
    for _ in range(PRIOR_STEPS):
        [(expected,)] = engine.rows(
            f"""SELECT sum({probability_sql(f"match_weight + {shift:.6f}")}) FROM {table}
                WHERE veto IS NULL AND match_weight >= {settings.thresholds.keep}"""
        )
        settled = min(max(float(expected or 0), 1.0) / pairs, 0.5)
        step = prior_weight(settled) - prior_weight(prior) - shift
        shift += step
        if abs(step) < 0.01:
            break
    odds = prior / (1 - prior) * 2**shift
    # The last digits depend on the order in which the engine adds the probabilities.
    return float(f"{odds / (1 + odds):.6g}")


def _pairs_that_agree(engine: Engine, columns: tuple[str, ...]) -> int:
    present = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    [(found,)] = engine.rows(
        f"""SELECT CAST(coalesce(sum(n * (n - 1) / 2), 0) AS bigint) FROM (
            SELECT count(*) AS n FROM records WHERE id = representative AND {present}
            GROUP BY {", ".join(columns)}) AS blocks"""
    )
    return int(found)


def read_model(linker: Linker, records: int) -> Model:
    """The current parameters of a linker as a model. `records`: number of records that it was trained from."""
    saved = linker.misc.save_model_to_json()
    comparisons = {}
    for comparison in saved["comparisons"]:
        levels = [level for level in comparison["comparison_levels"] if not level.get("is_null_level")]
        comparisons[comparison["output_column_name"]] = tuple(
            LevelWeights(label=level["label_for_charts"], m=_probability(level, "m"), u=_probability(level, "u"))
            for level in levels
        )
    return Model(prior=saved["probability_two_random_records_match"], comparisons=comparisons, records=records)


def _probability(level: dict[str, Any], which: str) -> float | None:
    value = level.get(f"{which}_probability")
    return round(max(float(value), SMALLEST), 10) if isinstance(value, int | float) else None
