from collections.abc import Iterable
from itertools import combinations

import pytest
from dedup.matching import clustering
from dedup.matching.clustering import (
    Edge,
    Facts,
    Pair,
    dates_contradict,
    givens_contradict,
    jaro_winkler,
    resolve,
)
from hypothesis import given
from hypothesis import strategies as st

RECORDS = range(8)
Name = tuple[str | None, str | None, str | None, str | None]
PAIRS = list(combinations(RECORDS, 2))

facts = st.fixed_dictionaries(
    {
        record: st.builds(
            lambda date, given: Facts(date, given, "smith", given),
            st.sampled_from([None, "1980-01-02", "1980-01-03", "1955-12-30"]),
            st.sampled_from([None, "anna", "robert", "r"]),
        )
        for record in RECORDS
    }
)
edges = st.lists(
    st.builds(Edge, st.sampled_from(PAIRS), st.integers(0, 30).map(float), st.booleans()),
    max_size=20,
    unique_by=lambda edge: edge.pair,
)
some_pairs = st.frozensets(st.sampled_from(PAIRS), max_size=4)


def inside(clusters: list[frozenset[int]]) -> set[Pair]:
    return {pair for cluster in clusters for pair in combinations(sorted(cluster), 2)}


@given(facts, edges, some_pairs, st.integers(2, 8))
def test_clusters_partition_the_records_and_violate_no_constraint(
    known: dict[int, Facts], found: list[Edge], apart: frozenset[Pair], max_entity: int
) -> None:
    clusters, _ = resolve(known, found, apart, max_entity=max_entity)

    assert sorted(record for cluster in clusters for record in cluster) == list(RECORDS)
    assert not inside(clusters) & apart
    if not any(edge.binding for edge in found):
        assert max(map(len, clusters)) <= max_entity


@given(st.data(), facts, edges, some_pairs)
def test_order_of_the_edges_does_not_matter(
    data: st.DataObject, known: dict[int, Facts], found: list[Edge], apart: frozenset[Pair]
) -> None:
    shuffled = data.draw(st.permutations(found))

    assert resolve(known, shuffled, apart, max_entity=5) == resolve(known, found, apart, max_entity=5)


@given(facts, edges, some_pairs)
def test_every_edge_joins_its_records_or_was_refused(
    known: dict[int, Facts], found: list[Edge], apart: frozenset[Pair]
) -> None:
    clusters, refused = resolve(known, found, apart, max_entity=5)

    assert {edge.pair for edge in found} - inside(clusters) == {item.pair for item in refused}


@given(facts, edges)
def test_without_constraints_clusters_are_connected_components(known: dict[int, Facts], found: list[Edge]) -> None:
    clusters, refused = resolve(known, found, frozenset(), max_entity=100, contradictions=())

    assert not refused
    expected = {record: {record} for record in RECORDS}
    for edge in found:
        whole = expected[edge.pair[0]] | expected[edge.pair[1]]
        expected |= dict.fromkeys(whole, whole)
    assert set(clusters) == {frozenset(group) for group in expected.values()}


def test_shared_record_does_not_make_husband_and_wife_one() -> None:
    known = {1: Facts(given="john", root="john"), 2: Facts(given="j", root="j"), 3: Facts(given="margaret", root="m")}

    clusters, refused = resolve(known, [Edge((1, 2), 9), Edge((2, 3), 8)], frozenset(), max_entity=50)

    assert clusters == [{1, 2}, {3}]
    assert [(item.pair, item.constraint_name) for item in refused] == [((2, 3), "given")]


def test_a_pairs_own_edge_has_weighed_its_dates() -> None:
    known = {1: Facts("1950-01-01"), 2: Facts("1980-12-24"), 3: Facts("1950-01-01")}

    joined, _ = resolve(known, [Edge((1, 2), 9), Edge((2, 3), 8), Edge((1, 3), 9)], frozenset(), max_entity=50)
    apart, refused = resolve(known, [Edge((1, 3), 9), Edge((2, 3), 8)], frozenset(), max_entity=50)

    assert joined == [{1, 2, 3}]
    assert apart == [{1, 3}, {2}]
    assert refused[0].constraint_name == "date_of_birth"


def test_one_customer_and_records_that_say_the_same_are_one_however_many() -> None:
    """Neither do they contradict each other, nor others again and again."""
    one = {n: Facts("1950-01-01" if n % 2 else "1980-12-24", customer="one") for n in range(100)}
    same = {n: Facts("1966-06-06", customer=n, representative=100) for n in range(100, 140)}
    edges = [Edge((0, n), 9) for n in range(1, 100)] + [Edge((100, n), 8) for n in range(101, 140)]

    clusters, refused = resolve(one | same, [*edges, Edge((0, 120), 7), Edge((0, 100), 6)], frozenset(), max_entity=50)

    assert clusters == [frozenset(one), frozenset(same)]
    assert {item.constraint_name for item in refused} == {"date_of_birth"}
    assert resolve(same | {1: Facts()}, [*edges[99:], Edge((1, 120), 7)], frozenset(), max_entity=2)[1] == []


def test_clusters_of_many_records_of_one_customer_copy_each_record_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0

    class Counting(frozenset[int]):
        def __new__(cls, records: Iterable[int] = ()) -> "Counting":
            nonlocal copied
            made = super().__new__(cls, records)
            copied += len(made)
            return made

    monkeypatch.setattr(clustering, "frozenset", Counting, raising=False)
    many = 2_000
    known = dict.fromkeys(range(many), Facts(customer="hubspot 1"))

    clusters, _ = resolve(known, [Edge((0, n), 1.0) for n in range(1, many)], set(), max_entity=2)

    assert clusters == [frozenset(range(many))]
    assert copied < 3 * many


def test_decisions_overrule_constraints_and_rules() -> None:
    known = {1: Facts("1950-01-01"), 2: Facts("1980-12-24")}

    same, _ = resolve(known, [Edge((1, 2), 1, binding=True)], frozenset(), max_entity=2)
    different, refused = resolve(known, [Edge((1, 2), 1e6)], {(1, 2)}, max_entity=2)

    assert same == [{1, 2}]
    assert different == [{1}, {2}]
    assert refused[0].constraint_name == "decision"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1980-02-03", "1980-02-03", False),
        ("1980-02-03", "1980-02-08", False),
        ("1980-02-03", "1980-03-02", False),
        ("1980-02-03", "1981-02-04", False),
        ("1980-02-03", "1962-11-20", True),
        (None, "1962-11-20", False),
    ],
)
def test_dates_contradict(one: str | None, other: str | None, expected: bool) -> None:
    assert dates_contradict(one, other) is dates_contradict(other, one) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("bill", "smith", "william", "william"), ("william", "smith", "william", "william"), False),
        (("w", "smith", "w", None), ("william", "smith", "william", "william"), False),
        (("wiliam", "smith", "wiliam", None), ("william", "smith", "william", "william"), False),
        (("smith", "william", "smith", None), ("william", "smith", "william", "william"), False),
        (("teresa", "smith", "teresa", None), ("robert", "smith", "robert", None), True),
        (("trish", "smith", "patrick", "patricia"), ("patrick", "smith", "patrick", "patrick"), True),
        (("pat", "smith", "patrick", None), ("patrick", "smith", "patrick", "patrick"), False),
        (("michael", "smith", "michael", "michael"), ("michelle", "smith", "michelle", "michelle"), True),
        ((None, "smith", None), ("robert", "smith", "robert"), False),
    ],
)
def test_given_names_contradict(one: Name, other: Name, expected: bool) -> None:
    assert givens_contradict(Facts(None, *one), Facts(None, *other)) is expected


@given(st.text("abcd", min_size=1, max_size=8), st.text("abcd", min_size=1, max_size=8))
def test_likeness_is_between_none_and_equal(one: str, other: str) -> None:
    assert 0 <= jaro_winkler(one, other) <= 1
    assert (jaro_winkler(one, other) == 1) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("martha", "marhta", 0.9611), ("dixon", "dicksonx", 0.8133), ("jones", "johnson", 0.8324)],
)
def test_likeness_is_winklers(one: str, other: str, expected: float) -> None:
    assert jaro_winkler(one, other) == pytest.approx(expected, abs=1e-4)
