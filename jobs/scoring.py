"""Tier 2: how likely two records are one, by Splink. The settings become its settings, its parameters our model."""

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

from dedup.matching.rules import term_columns
from dedup.matching.scoring import ELSE, RECORDS_FOR_RARITY, SMALLEST, SWAPPED
from dedup.matching.settings import Comparison, Level, Settings, Veto
from splink import Linker, SettingsCreator, block_on
from splink.comparison_level_library import CustomLevel, ElseLevel
from splink.comparison_library import CustomComparison

from jobs.engines import Engine
from jobs.model import LevelWeights, Model

logger = logging.getLogger("jobs")


def key_sql(part: str, side: str = "") -> str:
    """A key of the settings (`column` or `column:N`) as SQL, of one side of a pair where `side` says which."""
    column, _, length = part.partition(":")
    value = f"{column}_{side}" if side in ("l", "r") else f"{side}{column}"
    return f"substr({value}, 1, {length})" if length else value


def _condition(level: Level, jaro_winkler: str) -> str:
    conditions = [f"{key_sql(part, 'l')} = {key_sql(part, 'r')}" for part in level.equal]
    if level.swapped:
        one, other = level.swapped
        conditions += [f"{jaro_winkler}({a}_l, {b}_r) >= {SWAPPED}" for a, b in ((one, other), (other, one))]
    if level.initial:
        letters = " OR ".join(f"length({level.initial}_{side}) = 1" for side in ("l", "r"))
        conditions += [f"substr({level.initial}_l, 1, 1) = substr({level.initial}_r, 1, 1)", f"({letters})"]
    conditions += [f"{jaro_winkler}({c}_l, {c}_r) >= {least}" for c, least in level.jaro_winkler.items()]
    conditions += [f"coalesce({c}_l = {c}_r, true)" for c in level.unless_different]
    conditions += [f"levenshtein({c}_l, {c}_r) <= {most}" for c, most in level.levenshtein.items()]
    return " AND ".join(conditions)


def _comparison(comparison: Comparison, model: Model | None, jaro_winkler: str, rarity: float) -> CustomComparison:
    missing = " OR ".join(
        f"({' AND '.join(f'{column}_{side} IS NULL' for column in comparison.columns)})" for side in ("l", "r")
    )
    known = model.weights(comparison) if model else None
    levels: list[Any] = [CustomLevel(missing, "missing").configure(is_null_level=True)]
    for place, level in enumerate(comparison.levels):
        made = CustomLevel(_condition(level, jaro_winkler), level.label).configure(label_for_charts=level.label)
        if level.term_frequency:
            made.configure(
                tf_adjustment_column=level.term_frequency,
                tf_adjustment_weight=rarity,
                disable_tf_exact_match_detection=True,
            )
        levels.append(_weighted(made, known[place] if known else None))
    levels.append(_weighted(ElseLevel().configure(label_for_charts=ELSE), known[-1] if known else None))
    return CustomComparison(levels, comparison.name)


def _weighted(level: Any, weights: LevelWeights | None) -> Any:
    known = {"m_probability": weights.m, "u_probability": weights.u} if weights else {}
    return level.configure(**{name: max(value, SMALLEST) for name, value in known.items() if value is not None})


def linker(engine: Engine, settings: Settings, model: Model | None, records: int, table: str = "records") -> Linker:
    """Splink over a table of records, whose columns block_0, block_1, … hold what pairs must share to be looked at.
    `records`: how many there are in all."""
    # How common a value is can't be told from few records: where they are, what is known of all values counts.
    rarity = records / (records + RECORDS_FOR_RARITY)
    creator = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="id",
        comparisons=[_comparison(c, model, engine.jaro_winkler, rarity) for c in settings.comparisons],
        blocking_rules_to_generate_predictions=[block_on(f"block_{n}") for n in range(len(settings.blocking))],
        probability_two_random_records_match=model.prior if model else 0.0001,
        retain_matching_columns=True,  # without them Splink leaves out the levels too
        retain_intermediate_calculation_columns=True,
        max_iterations=25,
        em_convergence=0.0005,
    )
    made = Linker(engine.splink.register(table), creator, log_level=logging.ERROR, validate_settings=False)
    for column in term_columns(settings.model_dump()):
        made.table_management.register_term_frequency_lookup(engine.splink.register(f"tf_{column}"), column)
    return made


def count_terms(engine: Engine, settings: Settings) -> None:
    """Makes tf_email, …: which part of all `records` has each value, those too that are not compared."""
    for column in term_columns(settings.model_dump()):
        engine.create(
            f"tf_{column}",
            f"""SELECT {column}, count(*) / (SELECT CAST(count({column}) AS double) FROM records) AS tf_{column}
                FROM records WHERE {column} IS NOT NULL GROUP BY {column}""",
        )


def train(engine: Engine, settings: Settings, start: Model, records: int) -> Model:
    """Learns from the records, beginning with `start`: `u` from random pairs, `m` by EM from pairs that agree in something;
    the model."""
    training = settings.training
    # Splink takes samples by a hash that each engine has of its own: no two would learn the same.
    engine.create(
        "drawn", f"SELECT *, md5('{training.seed} ' || CAST(id AS string)) AS lot FROM records WHERE id = says"
    )
    engine.create("sampled", f"SELECT * FROM drawn ORDER BY lot LIMIT {math.isqrt(2 * training.max_pairs)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random = linker(engine, settings, start, records, "sampled")
        random.training.estimate_u_using_random_sampling(max_pairs=training.max_pairs, num_chunks=1)
        start = read_model(random, records).leaning_on(start, settings)
        made = linker(engine, settings, start, records, "drawn")
        for columns in training.passes:
            found = _pairs_that_agree(engine, columns)
            if found < training.pass_needs_pairs:
                logger.info("No pass on %s: %d pairs", ", ".join(columns), found)
                continue
            agree = [f"l.{column} = r.{column}" for column in columns]
            if found > training.max_pairs:
                last = f"{int(math.sqrt(training.max_pairs / found) * 2**32):08x}"
                agree += [f"l.lot < '{last}'", f"r.lot < '{last}'"]
            made.training.estimate_parameters_using_expectation_maximisation(" AND ".join(agree), max_pairs=None)
    return read_model(made, records)


def first_prior(settings: Settings, records: int, pairs_by_rules: int) -> float:
    """A first guess how likely two random records are one: the pairs that the rules find, over the part of all that they are taken
    to find, over all pairs. At least one true pair is assumed, so that the odds are never none."""
    expected = max(pairs_by_rules, 1) / settings.training.recall_of_rules
    return min(expected / max(records * (records - 1) / 2, 1.0), 0.5)


def settle_prior(engine: Engine, table: str, prior: float, records: int) -> float:
    """The prior that agrees with what it leads to, and the weights of `table` under it: the sum of the probabilities of
    all scored pairs is how many are expected to match. That is EM for this one parameter, the others held."""
    pairs = max(records * (records - 1) / 2, 1.0)
    shift = 0.0
    for _ in range(PRIOR_STEPS):
        [(expected,)] = engine.rows(
            f"SELECT sum({probability_sql(f'match_weight + {shift:.6f}')}) FROM {table} WHERE veto IS NULL"
        )
        settled = min(max(float(expected or 0), 1.0) / pairs, 0.5)
        step = math.log2(settled / (1 - settled)) - math.log2(prior / (1 - prior)) - shift
        shift += step
        if abs(step) < 0.01:
            break
    weight = f"match_weight + {shift:.6f}"
    engine.create(
        f"{table}_settled",
        f"""SELECT id_l, id_r, {weight} AS match_weight, {probability_sql(weight)} AS match_probability, veto, review_flag,
            waterfall FROM {table}""",
    )
    engine.create(table, f"SELECT * FROM {table}_settled")
    odds = prior / (1 - prior) * 2**shift
    # Its last digits are those of a sum in any order.
    return float(f"{odds / (1 + odds):.6g}")


PRIOR_STEPS = 20


def probability_sql(weight: str) -> str:
    """dedup.matching.scoring.probability in SQL, of a weight in SQL. Engines have infinity where a double ends: 1 / (1 + inf) is 0."""
    return f"1 / (1 + power(CAST(2 AS double), -({weight})))"


def _pairs_that_agree(engine: Engine, columns: tuple[str, ...]) -> int:
    present = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    [(found,)] = engine.rows(
        f"""SELECT CAST(coalesce(sum(n * (n - 1) / 2), 0) AS bigint) FROM (
            SELECT count(*) AS n FROM records WHERE id = says AND {present} GROUP BY {", ".join(columns)}) AS blocks"""
    )
    return int(found)


def read_model(made: Linker, records: int) -> Model:
    """What a linker knows now, as a model that so many records taught."""
    saved = made.misc.save_model_to_json()
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


def score(made: Linker, engine: Engine, settings: Settings, table: str, pairs: str = "") -> None:
    """Makes `table` (id_l, id_r, match_weight, match_probability, veto, review_flag, waterfall) of the pairs that the blocks bring
    together, or of those in the table `pairs`, where their weight is `keep` at least. `veto` and `review_flag`: their names, or null."""
    if pairs:
        engine.create("asked", f"SELECT id_l AS join_key_l, id_r AS join_key_r, '0' AS match_key FROM {pairs}")
        made.table_management.register_blocked_pairs_for_predict(engine.splink.register("asked"))
    scored = made.inference.predict(threshold_match_weight=settings.thresholds.keep, warning_mode="never")
    columns = [column.unquote().name for column in scored.columns]
    engine.create(
        table,
        f"""SELECT id_l, id_r, match_weight, match_probability, {_first_sql(settings, settings.constraints.vetoes)} AS veto,
            {_first_sql(settings, settings.constraints.review_flags)} AS review_flag,
            {waterfall_sql(settings, columns)} AS waterfall FROM {scored.physical_name}""",
    )
    scored.drop_table_from_database_and_remove_from_cache()


def _first_sql(settings: Settings, vetoes: Sequence[Veto]) -> str:
    heights = {
        c.name: {level.label: len(c.levels) - n for n, level in enumerate(c.levels)} for c in settings.comparisons
    }
    cases = [
        f"WHEN {' AND '.join(f'gamma_{name} = 0' for name in veto.differ)}"
        + "".join(f" AND {column}_l <> {column}_r" for column in veto.other)
        + "".join(
            f" AND gamma_{name} NOT IN ({', '.join(str(heights[name][label]) for label in labels)})"
            for name, labels in veto.unless.items()
        )
        + f" THEN '{veto.name}'"
        for veto in vetoes
    ]
    return f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS string)"


def waterfall_sql(settings: Settings, columns: list[str]) -> str:
    """JSON text, for a scored pair: comparison → [its level from the top (1, 2, …) or 0 for missing, its match weight]."""
    parts = []
    for comparison in settings.comparisons:
        name = comparison.name
        adjustment = f"mw_tf_adj_{name}"
        weight = f"mw_{name} + {adjustment}" if adjustment in columns else f"mw_{name}"
        # Splink counts levels from the bottom: 0 is its else, -1 missing.
        level = f"CASE gamma_{name} WHEN -1 THEN 0 ELSE {len(comparison.levels) + 1} - gamma_{name} END"
        parts.append(
            f"""'"{name}": [' || CAST({level} AS string) || ', ' || CAST(round({weight}, 3) AS string) || ']'"""
        )
    return f"""'{{' || {" || ', ' || ".join(parts)} || '}}'"""
