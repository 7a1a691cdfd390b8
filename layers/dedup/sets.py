"""The set logic. A customer is in exactly one region: the set of sources that have them.

Every set question selects regions; a count is the sum over the selected ones, a list is the customers in them.
Pure: plain values in, plain values out, and nothing of ours is imported.
"""

from collections.abc import Collection, Iterable, Mapping, Set

Region = frozenset[str]
"""The names of the sources that have a customer, and of no other: one area of a Venn diagram."""

Regions = Mapping[Region, int]
"""How many customers are in each region that has any."""


def select(
    regions: Iterable[Region],
    within: Set[str] = frozenset(),
    without: Set[str] = frozenset(),
    exactly: Set[str] = frozenset(),
) -> set[Region]:
    """The regions of the customers in every source of `within` and in none of `without`:
    the intersection of the former less the union of the latter; where `exactly` names sources, of those the one region
    of the customers that these have and no other. All of them when all three are empty."""
    return {r for r in regions if within <= r and not r & without and (not exactly or r == exactly)}


def union(regions: Iterable[Region], sources: Set[str]) -> set[Region]:
    """The regions of the customers in at least one of `sources`."""
    return {region for region in regions if not region.isdisjoint(sources)}


def only_in(regions: Collection[Region], source: str) -> set[Region]:
    """The regions of the customers in `source` and nowhere else: one region at most."""
    region = frozenset({source})
    return {region} if region in regions else set()


def count(regions: Regions, selected: Iterable[Region] | None = None) -> int:
    """How many customers are in the selected regions, or in all of them."""
    return sum(regions.values()) if selected is None else sum(regions.get(region, 0) for region in set(selected))


def count_by_source(regions: Regions) -> dict[str, int]:
    """How many customers each source has, of the sources that have any. In one pass: a question for each of 63 sources
    goes through all regions 63 times."""
    counts: dict[str, int] = {}
    for region, customers in regions.items():
        for source in region:
            counts[source] = counts.get(source, 0) + customers
    return counts


def largest_first(regions: Regions) -> list[tuple[list[str], int]]:
    """Each region that has a customer as (its sources in alphabetical order, its customers), the largest first."""
    named = [(sorted(region), customers) for region, customers in regions.items() if customers]
    return sorted(named, key=lambda pair: (-pair[1], pair[0]))
