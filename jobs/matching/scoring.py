"""Scores candidate pairs with Splink.

The matching settings become Splink's settings; the prior, `m` and `u` come from the match model, and term frequencies
from the table `term`."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

from dedup.matching.rules import term_columns
from dedup.matching.scoring import ELSE, SMALLEST, SWAPPED, prior_weight, rarity
from dedup.matching.settings import Comparison, Level, Settings, Veto
from splink import Linker, SettingsCreator, block_on
from splink.comparison_level_library import CustomLevel, ElseLevel
from splink.comparison_library import CustomComparison

from jobs.matching.engine import Engine, parquet_table
from jobs.matching.model import LevelWeights, Model

NO_TERMS = "SELECT CAST('' AS string) AS field, CAST('' AS string) AS value, CAST(0 AS bigint) AS records WHERE 1 = 0"
"""An empty table `term`, see create_term_frequencies()."""


def key_sql(part: str, side: str = "") -> str:
    """A key of the settings (`column`, or `column:N` for the first N letters) as SQL. `side`: "l" or "r" for one record
    of a pair."""
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


def _comparison(comparison: Comparison, model: Model | None, jaro_winkler: str, term_weight: float) -> CustomComparison:
    missing = " OR ".join(
        f"({' AND '.join(f'{column}_{side} IS NULL' for column in comparison.columns)})" for side in ("l", "r")
    )
    known = model.weights(comparison) if model else None
    levels: list[Any] = [CustomLevel(missing, "missing").configure(is_null_level=True)]
    for position, level in enumerate(comparison.levels):
        custom = CustomLevel(_condition(level, jaro_winkler), level.label).configure(label_for_charts=level.label)
        if level.term_frequency:
            custom.configure(
                tf_adjustment_column=level.term_frequency,
                tf_adjustment_weight=term_weight,
                disable_tf_exact_match_detection=True,
            )
        levels.append(_weighted(custom, known[position] if known else None))
    levels.append(_weighted(ElseLevel().configure(label_for_charts=ELSE), known[-1] if known else None))
    return CustomComparison(levels, comparison.name)


def _weighted(level: Any, weights: LevelWeights | None) -> Any:
    known = {"m_probability": weights.m, "u_probability": weights.u} if weights else {}
    return level.configure(**{name: max(value, SMALLEST) for name, value in known.items() if value is not None})


def create_linker(
    engine: Engine, settings: Settings, model: Model | None, records: int, table: str = "records"
) -> Linker:
    """A Splink linker over a table of records with keys (block_0, …). `records`: number of records of the run that
    trained the model."""
    creator = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="id",
        comparisons=[_comparison(c, model, engine.jaro_winkler, rarity(records)) for c in settings.comparisons],
        blocking_rules_to_generate_predictions=[block_on(f"block_{n}") for n in range(len(settings.blocking))],
        probability_two_random_records_match=model.prior if model else 0.0001,
        retain_matching_columns=True,  # without them Splink leaves out the levels too
        retain_intermediate_calculation_columns=True,
        max_iterations=25,
        em_convergence=0.0005,
    )
    linker = Linker(engine.splink.register(table), creator, log_level=logging.ERROR, validate_settings=False)
    for column in term_columns(settings.model_dump()):
        linker.table_management.register_term_frequency_lookup(engine.splink.register(f"tf_{column}"), column)
    return linker


def create_term_frequencies(engine: Engine, settings: Settings) -> str:
    """Makes `term` (field, value, records) of `records`, including exact duplicates: how many records have a value, if
    several have it; without a value, how many have any. Values are stored as hashes, so that a model version holds no
    personal data (dedup.matching.scoring.term_value). And with it tf_email, …, see apply_terms(). Returns the digest of
    the frequencies, with which values are hashed: it can't be known without all of them."""
    queries = [NO_TERMS]
    for column in term_columns(settings.model_dump()):
        queries.append(f"SELECT '{column}', NULL, count({column}) FROM records")
        queries.append(
            f"""SELECT '{column}', {column}, count(*) FROM records WHERE {column} IS NOT NULL
                GROUP BY {column} HAVING count(*) > 1"""
        )
    engine.create("clear_term", " UNION ALL ".join(queries))
    digest = digest_terms(engine, "clear_term")
    engine.create("term", f"SELECT field, {_hashed('value', digest)} AS value, records FROM clear_term")
    apply_terms(engine, settings, "records", digest)
    return digest


def read_terms(engine: Engine, path: str | None) -> None:
    """Makes `term` from a file of term frequencies, or empty."""
    engine.create("term", f"SELECT field, value, records FROM {parquet_table(engine, path)}" if path else NO_TERMS)


def _hashed(value: str, digest: str) -> str:
    """SQL for dedup.matching.scoring.term_value()."""
    return f"md5('{digest}' || {value})"


def apply_terms(engine: Engine, settings: Settings, table: str, digest: str) -> None:
    """Makes tf_email, …: for each value that occurs in a table of normalised records, its relative frequency by `term`,
    which has the `digest`. A value that is not in `term` counts as one record. Empty if `term` lacks the column."""
    for column in term_columns(settings.model_dump()):
        engine.create(
            f"tf_{column}",
            f"""SELECT v.{column}, coalesce(t.records, 1) / CAST(n.records AS double) AS tf_{column}
                FROM (SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL) AS v
                CROSS JOIN (
                    SELECT records FROM term WHERE field = '{column}' AND value IS NULL AND records > 0) AS n
                LEFT JOIN term t ON t.field = '{column}' AND t.value = {_hashed(f"v.{column}", digest)}""",
        )


def digest_terms(engine: Engine, table: str) -> str:
    """A digest of term frequencies, which depends neither on the order of the rows nor on the engine: sums of the
    hexadecimal digits of each row's MD5, by position."""
    row = "field || chr(31) || coalesce(value, '') || chr(31) || CAST(records AS string)"
    sums = ", ".join(f"sum(instr('123456789abcdef', substr(hash, {n}, 1)))" for n in range(1, 33))
    [found] = engine.rows(f"SELECT count(*), {sums} FROM (SELECT md5({row}) AS hash FROM {table}) AS hashed")
    return hashlib.sha256(" ".join(str(value or 0) for value in found).encode()).hexdigest()[:32]


def score(
    linker: Linker,
    engine: Engine,
    settings: Settings,
    table: str,
    pairs: str = "",
    keep: float | None = None,
    *,
    remaining: bool = False,
) -> None:
    """Makes `table` (id_l, id_r, evidence, match_weight, match_probability, veto, review_flag, waterfall, remaining) of
    the candidate pairs, or of the pairs in the table `pairs`, whose match weight is at least `keep`, by default that of
    the settings. `evidence`: the match weight without the prior's. `veto` and `review_flag`: the name of the first that
    applies, or null. `remaining` is as given.

    Weights depend on the pair and the model only, to the last digit."""
    keep = settings.thresholds.keep if keep is None else keep
    if pairs:
        engine.create("blocked_pair", f"SELECT id_l AS join_key_l, id_r AS join_key_r, '0' AS match_key FROM {pairs}")
        linker.table_management.register_blocked_pairs_for_predict(engine.splink.register("blocked_pair"))
    # A little less, because Splink adds the prior first: its last digit is another.
    scored = linker.inference.predict(threshold_match_weight=keep - 0.001, warning_mode="never")
    columns = [column.unquote().name for column in scored.columns]
    parts = [f"{kind}_{c.name}" for c in settings.comparisons for kind in ("mw", "mw_tf_adj")]
    evidence = " + ".join(part for part in parts if part in columns)
    engine.create(
        f"{table}_evidence",
        f"""SELECT id_l, id_r, {evidence} AS evidence,
            {_first_sql(settings, settings.constraints.vetoes)} AS veto,
            {_first_sql(settings, settings.constraints.review_flags)} AS review_flag,
            {waterfall_sql(settings, columns)} AS waterfall, {str(remaining).lower()} AS remaining
            FROM {scored.physical_name}""",
    )
    scored.drop_table_from_database_and_remove_from_cache()
    prior = linker.misc.save_model_to_json()["probability_two_random_records_match"]
    weigh(engine, f"{table}_evidence", table, prior, keep)


def weigh(engine: Engine, evidence: str, table: str, prior: float, keep: float) -> None:
    """Makes `table`, as score() does, of a table that has the evidence of each pair, with another prior."""
    engine.create(
        table,
        f"""SELECT id_l, id_r, evidence, match_weight, {probability_sql("match_weight")} AS match_probability, veto,
            review_flag, waterfall, remaining
            FROM (SELECT *, evidence + CAST('{prior_weight(prior)!r}' AS double) AS match_weight FROM (
                SELECT id_l, id_r, evidence, veto, review_flag, waterfall, remaining FROM {evidence}
            ) AS pairs) AS weighed
            WHERE match_weight >= {keep!r}""",
    )


def probability_sql(weight: str) -> str:
    """SQL for the match probability of a match weight, as dedup.matching.scoring.probability. For very low weights the
    power is infinity, and the result 0."""
    return f"1 / (1 + power(CAST(2 AS double), -({weight})))"


def _first_sql(settings: Settings, vetoes: Sequence[Veto]) -> str:
    """SQL for the name of the first veto that applies to a scored pair, or null."""
    # Splink counts levels from the bottom: 0 is its else, -1 missing.
    gammas = {
        c.name: {level.label: len(c.levels) - n for n, level in enumerate(c.levels)} for c in settings.comparisons
    }
    cases = [
        f"WHEN {' AND '.join(f'gamma_{name} = 0' for name in veto.differ)}"
        + "".join(f" AND {column}_l <> {column}_r" for column in veto.other)
        + "".join(
            f" AND gamma_{name} NOT IN ({', '.join(str(gammas[name][label]) for label in labels)})"
            for name, labels in veto.unless.items()
        )
        + f" THEN '{veto.name}'"
        for veto in vetoes
    ]
    return f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS string)"


def waterfall_sql(settings: Settings, columns: list[str]) -> str:
    """SQL for the waterfall of a scored pair, JSON text: comparison → [level from the top (1, 2, …) or 0 for missing,
    match weight]. `columns`: those of Splink's result."""
    parts = []
    for comparison in settings.comparisons:
        name = comparison.name
        adjustment = f"mw_tf_adj_{name}"
        weight = f"mw_{name} + {adjustment}" if adjustment in columns else f"mw_{name}"
        # As above: Splink's levels are numbered from the bottom.
        level = f"CASE gamma_{name} WHEN -1 THEN 0 ELSE {len(comparison.levels) + 1} - gamma_{name} END"
        parts.append(
            f"""'"{name}": [' || CAST({level} AS string) || ', ' || CAST(round({weight}, 3) AS string) || ']'"""
        )
    return f"""'{{' || {" || ', ' || ".join(parts)} || '}}'"""
