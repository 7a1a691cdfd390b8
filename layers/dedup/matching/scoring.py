"""How likely two records are one, as Splink says with the same settings and model, for a pair at a time and without an
engine. Pure: settings and model are what a run keeps, records their comparable forms (dedup.matching.normalise)."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup.matching.clustering import jaro_winkler
from dedup.matching.rules import differ

ELSE = "else"
MISSING = "missing"

SMALLEST = 1e-9
"""No level is taken as impossible because none of its pairs were seen: that would outweigh everything else."""
RECORDS_FOR_RARITY = 1000
"""With so many records, their term frequencies count half."""
SWAPPED = 0.88
"""How alike, by Jaro-Winkler, parts of names must be that changed places."""

Form = Mapping[str, Any]
Shares = Mapping[str, Mapping[str | None, int]]
"""For a column, how many records have a value, where several do; by None how many have any."""


@dataclass(frozen=True)
class Step:
    """What one comparison adds to the match weight: its name, the level's label, log2(m/u) and what rarity adds."""

    field: str
    level: str
    weight: float


@dataclass(frozen=True)
class Score:
    """How likely two records are one. `weight` is the sum of the steps and of the prior's weight; `veto` names the
    constraint that says they are not, whatever the weight."""

    weight: float
    probability: float
    steps: tuple[Step, ...]
    veto: str | None


class Scorer:
    """Scores pairs by the settings and the model of a run over so many records."""

    def __init__(self, settings: Mapping[str, Any], model: Mapping[str, Any], records: int) -> None:
        self._comparisons = settings["comparisons"]
        self._vetoes = settings["constraints"].get("vetoes", ())
        self._weights = {
            comparison["name"]: level_weights(comparison, model["comparisons"].get(comparison["name"], ()))
            for comparison in self._comparisons
        }
        self._prior = math.log2(model["prior"] / (1 - model["prior"]))
        self._rarity = records / (records + RECORDS_FOR_RARITY)

    def score(self, one: Form, other: Form, shares: Shares) -> Score:
        """How likely two records are one, by their comparable forms. `shares` is about the values that both have."""
        steps = tuple(self._step(comparison, one, other, shares) for comparison in self._comparisons)
        weight = self._prior + sum(step.weight for step in steps)
        return Score(
            weight, probability(weight), steps, self._veto({step.field: step.level for step in steps}, one, other)
        )

    def _step(self, comparison: Mapping[str, Any], one: Form, other: Form, shares: Shares) -> Step:
        name = comparison["name"]
        if any(all(form[column] is None for column in comparison["columns"]) for form in (one, other)):
            return Step(name, MISSING, 0.0)
        levels = comparison["levels"]
        place = next((n for n, level in enumerate(levels) if _holds(level, one, other)), len(levels))
        label = ELSE if place == len(levels) else levels[place]["label"]
        m, u = self._weights[name][place]
        weight = math.log2(m / u)
        if label == ELSE:
            return Step(name, ELSE, weight)
        term = levels[place].get("term_frequency")
        if term and (share := _share(shares.get(term, {}), one[term])):
            weight += self._rarity * (math.log2(u) - math.log2(share))
        return Step(name, label, weight)

    def _veto(self, levels: Mapping[str, str], one: Form, other: Form) -> str | None:
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


def level_weights(
    comparison: Mapping[str, Any], learnt: Sequence[Mapping[str, Any]]
) -> tuple[tuple[float, float], ...]:
    """`m` and `u` of each level of a comparison, the added last one's too: how often it is seen among pairs that are
    one person, and among others. Where nothing was learnt, or for other levels, it is what Splink begins with and then
    predicts with: a weight of 10 for the first level, and from 3 down to -5 for the others."""
    others = len(comparison["levels"])
    begins = [(0.95, 0.95 / 2**10)]
    for place in range(others):
        m = 0.05 / others
        begins.append((m, m / 2 ** (-5 + 8 * (others - 1 - place) / max(others - 1, 1))))
    labels = [*(level["label"] for level in comparison["levels"]), ELSE]
    if [level["label"] for level in learnt] != labels:
        return tuple(begins)
    return tuple(
        (m if level["m"] is None else max(level["m"], SMALLEST), u if level["u"] is None else max(level["u"], SMALLEST))
        for level, (m, u) in zip(learnt, begins, strict=True)
    )


def probability(weight: float) -> float:
    """The match probability, from 0 to 1, of a match weight: log2 of the odds, any number."""
    # exp2, because 2 ** of a large int is an int of as many bits; -abs, because a double ends at 2 ** 1024.
    odds = math.exp2(-abs(weight))
    return (odds if weight < 0 else 1.0) / (1 + odds)


def steps_of(waterfall: str | None, settings: Mapping[str, Any]) -> Iterator[Step]:
    """The steps that a run wrote down: comparison → [level from the top or 0 for missing, weight]."""
    levels = {c["name"]: [MISSING, *(level["label"] for level in c["levels"]), ELSE] for c in settings["comparisons"]}
    for name, (place, weight) in json.loads(waterfall or "{}").items():
        yield Step(name, levels[name][place], weight)


def _share(counts: Mapping[str | None, int], value: str) -> float | None:
    records = counts.get(None)
    return counts.get(value, 1) / records if records else None


def _holds(level: Mapping[str, Any], one: Form, other: Form) -> bool:
    for part in level.get("equal", ()):
        column, _, length = part.partition(":")
        values = [form[column] and form[column][: int(length) if length else None] for form in (one, other)]
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
    """Whether at most so many letters have to be inserted, left out or replaced to make one text of the other."""
    if one is None or other is None or abs(len(one) - len(other)) > most:
        return False
    from jellyfish import levenshtein_distance

    return levenshtein_distance(one, other) <= most
