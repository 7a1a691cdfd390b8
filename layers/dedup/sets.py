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


def select(
    regions: Iterable[Region],
    within: Set[str] = frozenset(),
    without: Set[str] = frozenset(),
    exactly: Set[str] = frozenset(),
) -> set[Region]:
    """Returns the regions of the customers in all sources of `within` and in no source of `without`. If `exactly` is
    not empty, only the region with exactly these sources is returned. Without any sources, all regions are returned."""
    return {r for r in regions if within <= r and not r & without and (not exactly or r == exactly)}


def union(regions: Iterable[Region], sources: Set[str]) -> set[Region]:
    """Returns the regions of the customers in at least one of `sources`."""
    return {region for region in regions if not region.isdisjoint(sources)}


def only_in(regions: Collection[Region], source: str) -> set[Region]:
    """Returns the region of the customers in `source` and in no other; empty if it has no customers."""
    region = frozenset({source})
    return {region} if region in regions else set()


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
