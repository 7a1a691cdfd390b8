"""Clusters records by edges under constraints, which prevent that one false edge joins two people. Pure functions."""

from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

Pair = tuple[int, int]
"""Two record ids, the smaller first."""


STRONGEST = 1e6
"""Strength of an edge of a decision or of the first match rule, which exceeds any match weight. Each further rule is
weaker by one."""


class Edge(NamedTuple):
    """Evidence that two records are the same person. If edges conflict, the stronger one applies."""

    pair: Pair
    strength: float
    binding: bool = False
    """The edge is a decision (must-link): only another decision can refuse it."""


class Refused(NamedTuple):
    """An edge that was refused by a constraint."""

    pair: Pair
    constraint_name: str


class Facts(NamedTuple):
    """The values of a record that constraints compare, its customer, and its representative."""

    date_of_birth: str | None = None
    given: str | None = None
    family: str | None = None
    root: str | None = None
    formal: str | None = None
    customer: Hashable = None
    """Equal for records of the same customer and source, if a match rule joins these."""
    representative: int | None = None
    """Id of the first of its exact duplicates, if a match rule joins these."""


def dates_contradict(one: str | None, other: str | None) -> bool:
    """Whether two dates (YYYY-MM-DD) differ by more than a typing error: in more than two digits, in more than one of
    year, month and day, and not by swapped day and month."""
    if not one or not other or one == other:
        return False
    first, second = one.split("-"), other.split("-")
    parts = sum(a != b for a, b in zip(first, second, strict=False))
    digits = sum(a != b for a, b in zip(one, other, strict=False))
    swapped = first[0] == second[0] and first[1:] == second[:0:-1]
    return parts > 1 and digits > 2 and not swapped


def givens_contradict(one: Facts, other: Facts) -> bool:
    """Whether two given names cannot belong to the same person.

    They contradict each other unless they are similar, nicknames or initials of each other, or swapped with the family
    name. Nicknames of different full names (`formal`) contradict each other, however similar they are."""
    if not one.given or not other.given:
        return False
    different_formal = None not in (one.formal, other.formal) and one.formal != other.formal
    if one.root == other.root and not different_formal:
        return False
    if 1 in (len(one.given), len(other.given)) and one.given[0] == other.given[0]:
        return False
    similarities = [0.0 if different_formal else jaro_winkler(one.given, other.given)]
    similarities += [jaro_winkler(a, b) for a, b in ((one.given, other.family), (one.family, other.given)) if a and b]
    return max(similarities) < ALIKE


ALIKE = 0.75
"""Jaro-Winkler similarity below which two given names are different names."""


def jaro_winkler(one: str, other: str) -> float:
    """Returns the Jaro-Winkler similarity (Winkler, 1990) of two non-empty texts, from 0 to 1. As in DuckDB, the bonus
    of 0.1 for each of the first four common letters applies from a similarity of 0.7 on."""
    from jellyfish import jaro_winkler_similarity  # imported here, because few functions that import this module use it

    return jaro_winkler_similarity(one, other)


CONTRADICTIONS: Mapping[str, Callable[[Facts, Facts], bool]] = {
    "date_of_birth": lambda one, other: dates_contradict(one.date_of_birth, other.date_of_birth),
    # Not with the same birth date: people with two given names may be called by either.
    "given": lambda one, other: (
        (one.date_of_birth is None or one.date_of_birth != other.date_of_birth) and givens_contradict(one, other)
    ),
}
"""The function that compares two records, by the name of the constraint."""


class _Cluster:
    """The records that have been joined so far. `checked` are those that contradictions are looked for in."""

    def __init__(self, record: int, facts: Facts, checked: Container[int]) -> None:
        self.records = {record}
        self.customers = {record if facts.customer is None else facts.customer}
        self.representatives = {record if facts.representative is None else facts.representative}
        self.checked = {record} if record in checked else set()

    def merge(self, other: "_Cluster") -> None:
        """Adds the records of another cluster."""
        self.records |= other.records
        self.customers |= other.customers
        self.representatives |= other.representatives
        self.checked |= other.checked

    def size_with(self, other: "_Cluster") -> int:
        """Returns the size of both clusters together: the number of customers or of representatives, whichever is
        smaller."""
        customers = len(self.customers) + len(other.customers - self.customers)
        return min(customers, len(self.representatives) + len(other.representatives - self.representatives))


def _checked_records(facts: Mapping[int, Facts], decided: Container[int], most: int) -> set[int]:
    """Returns the records to check for contradictions, which limits the number of comparisons: `decided` records, and
    the representatives, at most `most` of each customer."""
    per_customer: Counter[Hashable] = Counter()
    checked = set()
    for record in sorted(facts):
        customer, representative = facts[record].customer, facts[record].representative
        is_duplicate = representative != record and representative in facts
        if record not in decided and (per_customer[customer] >= most or is_duplicate):
            continue
        per_customer[customer] += customer is not None
        checked.add(record)
    return checked


class _Constraints:
    """What refuses an edge; see resolve()."""

    def __init__(
        self,
        facts: Mapping[int, Facts],
        edges: Iterable[Edge],
        cannot_link: Set[Pair],
        max_entity: int,
        contradictions: Sequence[str],
    ) -> None:
        self._facts = facts
        self._with_edge = {edge.pair for edge in edges}
        self._max_entity = max_entity
        self._contradictions = contradictions
        self._bound = {record: frozenset({record}) for record in facts}
        self.forbidden: dict[int, set[int]] = {}
        """The records that decisions keep apart from a record."""
        for left, right in cannot_link:
            self.forbidden.setdefault(left, set()).add(right)
            self.forbidden.setdefault(right, set()).add(left)

    def refusal(self, edge: Edge, large: _Cluster, small: _Cluster) -> str | None:
        """Returns the name of the constraint that refuses to join two clusters by an edge."""
        forbidden = self.forbidden
        if any(not forbidden[record].isdisjoint(large.records) for record in small.records if record in forbidden):
            return "decision"
        if edge.binding:
            return None
        if large.size_with(small) > self._max_entity:
            return "size"
        return self._contradiction(edge, large, small)

    def bind(self, pair: Pair) -> None:
        """Makes the records that a binding edge joins count as one."""
        whole = self._bound[pair[0]] | self._bound[pair[1]]
        self._bound |= dict.fromkeys(whole, whole)

    def _contradiction(self, edge: Edge, large: _Cluster, small: _Cluster) -> str | None:
        first, second = (
            {self._bound[record] for record in (*one.checked, *(r for r in edge.pair if r in one.records))}
            for one in (large, small)
        )
        pairs = [(a, b) for a in first for b in second]
        conflicts = list(filter(None, (self._conflict_between(a, b) for a, b in pairs)))
        if not conflicts:
            return None
        joining = sum(any(_pair(a, b) in self._with_edge for a in one for b in other) for one, other in pairs)
        return min(conflicts) if len(conflicts) >= joining else None

    def _conflict_between(self, one: frozenset[int], other: frozenset[int]) -> str | None:
        found = [self._conflict(a, b) for a in one for b in other]
        return None if None in found else min(filter(None, found))

    def _conflict(self, a: int, b: int) -> str | None:
        one, other = self._facts[a], self._facts[b]
        if _pair(a, b) in self._with_edge or (one.customer is not None and one.customer == other.customer):
            return None
        return next((name for name in self._contradictions if CONTRADICTIONS[name](one, other)), None)


def resolve(
    facts: Mapping[int, Facts],
    edges: Iterable[Edge],
    cannot_link: Set[Pair],
    *,
    max_entity: int,
    contradictions: Sequence[str] = tuple(CONTRADICTIONS),
) -> tuple[list[frozenset[int]], list[Refused]]:
    """Returns the clusters of the records, joined by the strongest edges first, and the edges that were refused by a
    constraint. The result does not depend on the order of the edges.

    An edge is refused if the joined cluster
    - would contain a pair of `cannot_link`: a decision that the records are different people;
    - would have more than `max_entity` customers and more than `max_entity` representatives;
    - would have at least as many contradicting pairs between the two parts as pairs with an edge. A pair with an edge,
      or of the same customer, is not a contradiction: the rule or the model has already considered its values.

    Binding edges are refused for the first reason only. The records that they join count as one record in the third."""
    ordered = sorted(edges, key=lambda edge: (not edge.binding, -edge.strength, edge.pair))
    constraints = _Constraints(facts, ordered, cannot_link, max_entity, contradictions)
    checked = _checked_records(facts, constraints.forbidden, max_entity)
    clusters = {record: _Cluster(record, known_of, checked) for record, known_of in facts.items()}
    refused: list[Refused] = []
    for edge in ordered:
        small, large = sorted((clusters[record] for record in edge.pair), key=lambda one: len(one.records))
        if small is large:
            continue
        if reason := constraints.refusal(edge, large, small):
            refused.append(Refused(edge.pair, reason))
            continue
        # Merging the smaller into the larger moves each record at most log2(n) times.
        large.merge(small)
        clusters |= dict.fromkeys(small.records, large)
        if edge.binding:
            constraints.bind(edge.pair)
    # A refused edge whose records were joined later by other edges is not reported.
    separate = [item for item in refused if clusters[item.pair[0]] is not clusters[item.pair[1]]]
    found = {id(one): one for one in clusters.values()}
    return sorted((frozenset(one.records) for one in found.values()), key=min), separate


def _pair(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)
