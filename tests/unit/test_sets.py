from collections import Counter
from itertools import chain

from dedup import sets
from dedup.sets import EVERYBODY, SetQuery
from hypothesis import given
from hypothesis import strategies as st

SOURCES = ("a", "b", "c", "d")

customers_by_source = st.fixed_dictionaries({source: st.frozensets(st.integers(0, 30)) for source in SOURCES})
some_sources = st.frozensets(st.sampled_from(SOURCES))


def regions_of(customers: dict[str, frozenset[int]]) -> sets.Regions:
    everyone = set(chain.from_iterable(customers.values()))
    return Counter(frozenset(source for source in SOURCES if who in customers[source]) for who in everyone)


@given(customers_by_source, some_sources, some_sources)
def test_selection_is_intersection_less_union(
    customers: dict[str, frozenset[int]], within: frozenset[str], without: frozenset[str]
) -> None:
    regions = regions_of(customers)

    counted = SetQuery(within, without).count(regions)

    everyone = frozenset().union(*customers.values())
    in_all = everyone.intersection(*(customers[source] for source in within))
    in_any = frozenset().union(*(customers[source] for source in without))
    assert counted == len(in_all - in_any)


@given(customers_by_source, some_sources.filter(bool))
def test_one_region_is_its_intersection_less_all_others(
    customers: dict[str, frozenset[int]], sources: frozenset[str]
) -> None:
    regions = regions_of(customers)

    exactly = SetQuery(exactly=sources).select(regions)

    assert exactly == SetQuery(sources, frozenset(SOURCES) - sources).select(regions)
    assert SetQuery(exactly=sources, without=sources).select(regions) == set()


@given(customers_by_source, some_sources)
def test_union_is_everybody_less_those_in_none(customers: dict[str, frozenset[int]], sources: frozenset[str]) -> None:
    regions = regions_of(customers)

    counted = EVERYBODY.count(regions) - SetQuery(without=sources).count(regions)

    assert counted == len(frozenset().union(*(customers[source] for source in sources)))


@given(customers_by_source, st.sampled_from(SOURCES))
def test_only_in_is_a_source_less_all_others(customers: dict[str, frozenset[int]], source: str) -> None:
    regions = regions_of(customers)

    counted = SetQuery(exactly=frozenset({source})).count(regions)

    others = frozenset().union(*(customers[other] for other in SOURCES if other != source))
    assert counted == len(customers[source] - others)


@given(customers_by_source)
def test_regions_partition_the_customers(customers: dict[str, frozenset[int]]) -> None:
    regions = regions_of(customers)

    largest_first = sets.largest_first(regions)

    assert sum(count for _, count in largest_first) == sets.count(regions) == len(set().union(*customers.values()))
    assert [count for _, count in largest_first] == sorted((count for _, count in largest_first), reverse=True)
    assert {frozenset(sources) for sources, _ in largest_first} == set(regions)


def test_empty_regions_are_left_out() -> None:
    assert sets.largest_first({frozenset({"a"}): 0, frozenset({"b"}): 1}) == [(["b"], 1)]


@given(customers_by_source)
def test_count_by_source_is_the_union_of_each_source_alone(customers: dict[str, frozenset[int]]) -> None:
    regions = regions_of(customers)

    counts = sets.count_by_source(regions)

    assert {source: counts.get(source, 0) for source in SOURCES} == {
        source: len(ids) for source, ids in customers.items()
    }
