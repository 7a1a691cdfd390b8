"""The set logic. A customer is in exactly one region: the set of sources that have them.

Every set question selects regions; a count is the sum over the selected ones, a list is the customers in them.
Pure: plain values in, plain values out, and nothing of ours is imported.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

Region = frozenset[str]
"""The names of the sources that have a customer, and of no other: one area of a Venn diagram."""

Regions = Mapping[Region, int]
"""How many customers are in each region that has any."""

NO_SOURCES: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SetQuery:
    """A set question: the customers that every source in `within` has and no source in `without`, the intersection of
    the former less the union of the latter. If `exactly` names sources: only those that these sources have and no
    other. An empty set does not restrict; EVERYBODY restricts nothing."""

    within: frozenset[str] = NO_SOURCES
    without: frozenset[str] = NO_SOURCES
    exactly: frozenset[str] = NO_SOURCES

    def select(self, regions: Collection[Region]) -> set[Region]:
        """The regions whose customers the question is about."""
        # One lookup: to go through tens of thousands of regions for each source takes half a second.
        asked = (self.exactly,) if self.exactly in regions else () if self.exactly else regions
        return {region for region in asked if self.within <= region and region.isdisjoint(self.without)}

    def count(self, regions: Regions) -> int:
        """How many customers the question is about."""
        return sum(regions[region] for region in self.select(regions))


EVERYBODY = SetQuery()


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
