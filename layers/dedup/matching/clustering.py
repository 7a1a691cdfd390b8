"""Where one false edge would make two people one: the constraints, and the clusters that they leave. Pure."""

from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

Pair = tuple[int, int]
"""Two record ids, the smaller first."""


STRONGEST = 1e6
"""How strong an edge is that a person's word or the first rule made: more than any match weight. Each later rule's is
weaker by one."""


class Edge(NamedTuple):
    """Why two records may be one. The stronger holds where both can't."""

    pair: Pair
    strength: float
    binding: bool = False
    """A person said so: no constraint but another person's word stands against it."""


class Refused(NamedTuple):
    """An edge that a constraint did not let join its records."""

    pair: Pair
    constraint_name: str


class Facts(NamedTuple):
    """What is known of a record that can say it is another person's, and of which customer of which source it is."""

    date_of_birth: str | None = None
    given: str | None = None
    family: str | None = None
    root: str | None = None
    formal: str | None = None
    customer: Hashable = None
    """The same for records that are one customer's of one source, where a rule makes these one."""
    says: int | None = None
    """The earliest record that says the same, where a rule makes these one."""


def dates_contradict(one: str | None, other: str | None) -> bool:
    """Whether two dates (YYYY-MM-DD) can't be one date with a slip: more than two digits differ, in more than one of
    year, month and day, and not because day and month changed places."""
    if not one or not other or one == other:
        return False
    first, second = one.split("-"), other.split("-")
    parts = sum(a != b for a, b in zip(first, second, strict=False))
    digits = sum(a != b for a, b in zip(one, other, strict=False))
    swapped = first[0] == second[0] and first[1:] == second[:0:-1]
    return parts > 1 and digits > 2 and not swapped


def givens_contradict(one: Facts, other: Facts) -> bool:
    """Whether two given names can't be one person's: not alike, or short for two full names, no nickname or initial of
    one another, and not the other's family name, as where the parts changed places."""
    if not one.given or not other.given:
        return False
    two = None not in (one.formal, other.formal) and one.formal != other.formal
    if one.root == other.root and not two:
        return False
    if 1 in (len(one.given), len(other.given)) and one.given[0] == other.given[0]:
        return False
    alike = [0.0 if two else jaro_winkler(one.given, other.given)]
    alike += [jaro_winkler(a, b) for a, b in ((one.given, other.family), (one.family, other.given)) if a and b]
    return max(alike) < ALIKE


ALIKE = 0.75
"""Given names that are less alike, by Jaro-Winkler, are two names."""


def jaro_winkler(one: str, other: str) -> float:
    """How alike two texts are, neither empty, from 0 to 1, a common beginning counting more. Winkler (1990), with his
    0.1 for each of the first four letters and, as DuckDB has it, only from 0.7 on."""
    from jellyfish import jaro_winkler_similarity  # here, since few of the functions that import this compare

    return jaro_winkler_similarity(one, other)


CONTRADICTIONS: Mapping[str, Callable[[Facts, Facts], bool]] = {
    "date_of_birth": lambda one, other: dates_contradict(one.date_of_birth, other.date_of_birth),
    # The same birth date outweighs it: people have a second given name, and are called by either.
    "given": lambda one, other: (
        (one.date_of_birth is None or one.date_of_birth != other.date_of_birth) and givens_contradict(one, other)
    ),
}
"""The constraints by what contradicts."""


class _Cluster:
    """Records that are joined so far."""

    def __init__(self, record: int, facts: Facts, voices: Container[int]) -> None:
        self.records = {record}
        self.customers = {record if facts.customer is None else facts.customer}
        self.said = {record if facts.says is None else facts.says}
        self.voices = {record} if record in voices else set()

    def take(self, other: "_Cluster") -> None:
        """Makes the records of another its own."""
        self.records |= other.records
        self.customers |= other.customers
        self.said |= other.said
        self.voices |= other.voices

    def size_with(self, other: "_Cluster") -> int:
        """How many customers, or how many that say different things, whichever are fewer, both have together."""
        customers = len(self.customers) + len(other.customers - self.customers)
        return min(customers, len(self.said) + len(other.said - self.said))


def _voices(facts: Mapping[int, Facts], spoken_of: Container[int], most: int) -> set[int]:
    """The records that may contradict others: the first of those that say the same, and so many of one customer's."""
    heard: Counter[Hashable] = Counter()
    voices = set()
    for record in sorted(facts):
        customer, says = facts[record].customer, facts[record].says
        if record not in spoken_of and (heard[customer] >= most or (says != record and says in facts)):
            continue
        heard[customer] += customer is not None
        voices.add(record)
    return voices


def resolve(
    facts: Mapping[int, Facts],
    edges: Iterable[Edge],
    apart: Set[Pair],
    *,
    max_entity: int,
    contradictions: Sequence[str] = tuple(CONTRADICTIONS),
) -> tuple[list[frozenset[int]], list[Refused]]:
    """The clusters of some records, joined by the strongest edges first, and the edges that a constraint refused.

    `apart`: pairs that are different people, whatever joins them. An edge is refused where its cluster would hold such
    a pair, or more than `max_entity` customers that say as many different things, or where between the two clusters
    that it joins as many pairs contradict each other as edges join; a pair that an edge of its own joins, or that is of
    one customer, contradicts nothing: that has weighed it. Binding edges are refused by the first alone, and what they
    join counts as one record: a person has weighed it. The answer depends on the edges and not on their order."""
    known = sorted(edges, key=lambda edge: (not edge.binding, -edge.strength, edge.pair))
    own = {edge.pair for edge in known}
    enemies: dict[int, set[int]] = {}
    for left, right in apart:
        enemies.setdefault(left, set()).add(right)
        enemies.setdefault(right, set()).add(left)
    voices = _voices(facts, enemies, max_entity)
    clusters = {record: _Cluster(record, known_of, voices) for record, known_of in facts.items()}
    groups = {record: frozenset({record}) for record in facts}

    def conflict(a: int, b: int) -> str | None:
        one, other = facts[a], facts[b]
        if _pair(a, b) in own or (one.customer is not None and one.customer == other.customer):
            return None
        return next((name for name in contradictions if CONTRADICTIONS[name](one, other)), None)

    def between(one: frozenset[int], other: frozenset[int]) -> str | None:
        found = [conflict(a, b) for a in one for b in other]
        return None if None in found else min(filter(None, found))

    def constraint_name(edge: Edge, large: _Cluster, small: _Cluster) -> str | None:
        if any(not enemies[record].isdisjoint(large.records) for record in small.records if record in enemies):
            return "decision"
        if edge.binding:
            return None
        if large.size_with(small) > max_entity:
            return "size"
        first, second = (
            {groups[record] for record in (*one.voices, *(r for r in edge.pair if r in one.records))}
            for one in (large, small)
        )
        pairs = [(a, b) for a in first for b in second]
        conflicts = list(filter(None, (between(a, b) for a, b in pairs)))
        if not conflicts:
            return None
        joining = sum(any(_pair(a, b) in own for a in one for b in other) for one, other in pairs)
        return min(conflicts) if len(conflicts) >= joining else None

    refused: list[Refused] = []
    for edge in known:
        small, large = sorted((clusters[record] for record in edge.pair), key=lambda one: len(one.records))
        if small is large:
            continue
        if reason := constraint_name(edge, large, small):
            refused.append(Refused(edge.pair, reason))
            continue
        # The smaller into the larger: so nobody is moved more often than there are doublings.
        large.take(small)
        clusters |= dict.fromkeys(small.records, large)
        if edge.binding:
            whole = groups[edge.pair[0]] | groups[edge.pair[1]]
            groups |= dict.fromkeys(whole, whole)
    # A pair that was refused once and joined later by another way needs nobody.
    still = [item for item in refused if clusters[item.pair[0]] is not clusters[item.pair[1]]]
    found = {id(one): one for one in clusters.values()}
    return sorted((frozenset(one.records) for one in found.values()), key=min), still


def _pair(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)


def keep_ids(clusters: Sequence[frozenset[int]], previous: Mapping[int, int], first_free: int) -> dict[int, int]:
    """An entity id for every record. A cluster keeps the id of an entity of `previous` (record → entity) where more
    than half of that entity's remaining records are in it: of several such, the one it has most records of. Others get
    new ids from `first_free` on, in the order of their smallest record.

    The SQL of jobs.matching.clustering says the same for tables of any size, and is tested against this one."""
    sizes: dict[int, int] = {}
    for records in clusters:
        for record in records:
            if record in previous:
                sizes[previous[record]] = sizes.get(previous[record], 0) + 1
    ids: dict[int, int] = {}
    for records in sorted(clusters, key=min):
        shared: dict[int, int] = {}
        for record in records:
            if record in previous:
                shared[previous[record]] = shared.get(previous[record], 0) + 1
        kept = [(-count, entity) for entity, count in shared.items() if 2 * count > sizes[entity]]
        if kept:
            entity = min(kept)[1]
        else:
            entity, first_free = first_free, first_free + 1
        ids |= dict.fromkeys(records, entity)
    return ids
