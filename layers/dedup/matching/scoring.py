"""Scores pairs of records one at a time and without an engine, with the same result as Splink. Pure functions: settings
and model are those that a run stores, records their normalised values (dedup.matching.normalise)."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any

from dedup.matching.clustering import jaro_winkler
from dedup.matching.rules import differ

ELSE = "else"
MISSING = "missing"

SMALLEST = 1e-9
"""Lower bound of learnt m and u probabilities: 0, for a level without observed pairs, would outweigh all other
levels."""
RECORDS_FOR_RARITY = 1000
"""Number of records at which term frequency adjustments have half their weight."""
SWAPPED = 0.88
"""Jaro-Winkler similarity from which swapped parts of a name count as similar."""

Normalised = Mapping[str, Any]
Shares = Mapping[str, Mapping[str | None, int]]
"""For each column the number of records with a value, by the value's hash (term_value) if it is more than one; None has
the number of records with any value."""


@dataclass(frozen=True)
class Step:
    """The part of a comparison in the match weight: its name, the label of the level, and log2(m/u) with the term
    frequency adjustment."""

    field: str
    level: str
    weight: float


@dataclass(frozen=True)
class Score:
    """The score of a pair. `weight` is the sum of the steps and the prior. `veto` is the name of the veto that forbids
    the match whatever its weight, or None."""

    weight: float
    probability: float
    steps: tuple[Step, ...]
    veto: str | None


class Scorer:
    """Scores pairs with the settings of a run, without the constraints that its model version waives, and the model."""

    def __init__(self, settings: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        self._comparisons = settings["comparisons"]
        self._vetoes = settings["constraints"].get("vetoes", ())
        self._weights = {
            comparison["name"]: level_weights(comparison, model["comparisons"].get(comparison["name"], ()))
            for comparison in self._comparisons
        }
        self._prior = prior_weight(model["prior"])
        self._rarity = rarity(model["records"])
        self._digest = model.get("terms")

    def score(self, one: Normalised, other: Normalised, shares: Shares) -> Score:
        """Returns the score of two records, given their normalised values and the `shares` of the values that both
        have."""
        steps = tuple(self._step(comparison, one, other, shares) for comparison in self._comparisons)
        weight = self._prior + sum(step.weight for step in steps)
        return Score(
            weight, probability(weight), steps, self._veto({step.field: step.level for step in steps}, one, other)
        )

    def _step(self, comparison: Mapping[str, Any], one: Normalised, other: Normalised, shares: Shares) -> Step:
        name = comparison["name"]
        if any(all(record[column] is None for column in comparison["columns"]) for record in (one, other)):
            return Step(name, MISSING, 0.0)
        levels = comparison["levels"]
        position = next((n for n, level in enumerate(levels) if _holds(level, one, other)), len(levels))
        label = ELSE if position == len(levels) else levels[position]["label"]
        m, u = self._weights[name][position]
        weight = math.log2(m / u)
        if label == ELSE:
            return Step(name, ELSE, weight)
        term = levels[position].get("term_frequency")
        if term and (share := _share(shares.get(term, {}), term_value(self._digest, one[term]))):
            weight += self._rarity * (math.log2(u) - math.log2(share))
        return Step(name, label, weight)

    def _veto(self, levels: Mapping[str, str], one: Normalised, other: Normalised) -> str | None:
        return next(
            (
                veto["name"]
                for veto in self._vetoes
                if all(levels.get(name) == ELSE for name in veto["differ"])
                and all(differ(one[column], other[column]) for column in veto.get("other", ()))
                and not any(levels.get(name) in labels for name, labels in veto.get("unless", {}).items())
            ),
            None,
        )


def prior_weight(prior: float) -> float:
    """Returns the match weight of a pair about which nothing is known: log2 of the odds of the prior."""
    return math.log2(prior / (1 - prior))


def term_value(digest: str | None, value: str) -> str:
    """Returns a value as the term frequencies with a digest have it: an MD5 hash of both."""
    return md5(f"{digest or ''}{value}".encode(), usedforsecurity=False).hexdigest()


def rarity(records: int) -> float:
    """Returns the weight, from 0 to 1, of term frequency adjustments with a model that was trained from so many
    records: few records say little about how common a value is."""
    return records / (records + RECORDS_FOR_RARITY)


def level_weights(
    comparison: Mapping[str, Any], learnt: Sequence[Mapping[str, Any]]
) -> tuple[tuple[float, float], ...]:
    """Returns the m and u probabilities of each level of a comparison, including the added last level: how often the
    level occurs among matching pairs, and among other pairs.

    If nothing was learnt, or for other levels, these are Splink's defaults: a weight of 10 for the first level, and
    from 3 down to -5 for the others."""
    others = len(comparison["levels"])
    defaults = [(0.95, 0.95 / 2**10)]
    for index in range(others):
        m = 0.05 / others
        defaults.append((m, m / 2 ** (-5 + 8 * (others - 1 - index) / max(others - 1, 1))))
    labels = [*(level["label"] for level in comparison["levels"]), ELSE]
    if [level["label"] for level in learnt] != labels:
        return tuple(defaults)
    return tuple(
        (m if level["m"] is None else max(level["m"], SMALLEST), u if level["u"] is None else max(level["u"], SMALLEST))
        for level, (m, u) in zip(learnt, defaults, strict=True)
    )


def probability(weight: float) -> float:
    """Returns the match probability, from 0 to 1, of a match weight (log2 of the odds)."""
    # exp2, because 2 ** of a large int is an int of as many bits; -abs, because a double overflows at 2 ** 1024.
    odds = math.exp2(-abs(weight))
    return (odds if weight < 0 else 1.0) / (1 + odds)


def steps_of(waterfall: str | None, settings: Mapping[str, Any]) -> Iterator[Step]:
    """Yields the steps of a stored waterfall, which is JSON: comparison → [level, weight]. Levels count from 1 for the
    most similar; 0 means that a value is missing."""
    levels = {c["name"]: [MISSING, *(level["label"] for level in c["levels"]), ELSE] for c in settings["comparisons"]}
    for name, (position, weight) in json.loads(waterfall or "{}").items():
        yield Step(name, levels[name][position], weight)


def _share(counts: Mapping[str | None, int], value: str) -> float | None:
    records = counts.get(None)
    return counts.get(value, 1) / records if records else None


def _holds(level: Mapping[str, Any], one: Normalised, other: Normalised) -> bool:
    for part in level.get("equal", ()):
        column, _, length = part.partition(":")
        values = [record[column] and record[column][: int(length) if length else None] for record in (one, other)]
        if values[0] is None or values[0] != values[1]:
            return False
    if level.get("swapped"):
        a, b = level["swapped"]
        if not all(_alike(x[a], y[b], SWAPPED) for x, y in ((one, other), (other, one))):
            return False
    if level.get("initial"):
        first, second = one[level["initial"]], other[level["initial"]]
        if not first or not second or first[0] != second[0] or 1 not in (len(first), len(second)):
            return False
    if any(differ(one[column], other[column]) for column in level.get("unless_different", ())):
        return False
    return all(_alike(one[c], other[c], least) for c, least in level.get("jaro_winkler", {}).items()) and all(
        near(one[c], other[c], most) for c, most in level.get("levenshtein", {}).items()
    )


def _alike(one: str | None, other: str | None, least: float) -> bool:
    return one is not None and other is not None and jaro_winkler(one, other) >= least


def near(one: str | None, other: str | None, most: int) -> bool:
    """Whether the Levenshtein distance of two texts is at most `most`; False if one of them is missing."""
    if one is None or other is None or abs(len(one) - len(other)) > most:
        return False
    from jellyfish import levenshtein_distance

    return levenshtein_distance(one, other) <= most
