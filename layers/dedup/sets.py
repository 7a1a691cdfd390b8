"""Set questions about regions. A customer is in exactly one region: the set of all sources that have the customer.

Every set question selects regions: its count is the sum of their counts, its list the customers in them. The module is
pure: it uses plain values only and imports nothing from the package.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

Region = frozenset[str]
"""The names of exactly the sources that have a customer: one area of a Venn diagram."""

Regions = Mapping[Region, int]
"""The number of customers in each region."""

NO_SOURCES: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SetQuery:
    """A set question: the customers in all sources of `within` and in no source of `without`. If `exactly` is not
    empty, only customers in exactly these sources. An empty set is no restriction; EVERYBODY selects all customers."""

    within: frozenset[str] = NO_SOURCES
    without: frozenset[str] = NO_SOURCES
    exactly: frozenset[str] = NO_SOURCES

    def select(self, regions: Collection[Region]) -> set[Region]:
        """Returns the regions of the selected customers."""
        if self == EVERYBODY:
            return set(regions)
        # With `exactly`, one lookup: iterating over tens of thousands of regions for each source takes half a second.
        candidates = (self.exactly,) if self.exactly in regions else () if self.exactly else regions
        return {region for region in candidates if self.within <= region and region.isdisjoint(self.without)}

    def count(self, regions: Regions) -> int:
        """Returns the number of selected customers."""
        return sum(regions[region] for region in self.select(regions))


EVERYBODY = SetQuery()


def count(regions: Regions, selected: Iterable[Region] | None = None) -> int:
    """Returns the number of customers in the selected regions, by default in all of them."""
    return sum(regions.values()) if selected is None else sum(regions.get(region, 0) for region in set(selected))


def count_by_source(regions: Regions) -> dict[str, int]:
    """Returns the number of customers of each source; sources without customers are omitted. One pass over the regions
    is enough for all sources, of which there may be 63."""
    counts: dict[str, int] = {}
    for region, customers in regions.items():
        for source in region:
            counts[source] = counts.get(source, 0) + customers
    return counts


def largest_first(regions: Regions) -> list[tuple[list[str], int]]:
    """Returns (sources in alphabetical order, number of customers) of each non-empty region, the largest first."""
    named = [(sorted(region), customers) for region, customers in regions.items() if customers]
    return sorted(named, key=lambda pair: (-pair[1], pair[0]))
