"""Which records take the place of those that are gone, in what people decided about them."""

from itertools import product

from dedup.store.matching.successors import COMPARED, successors
from hypothesis import given
from hypothesis import strategies as st

SAME = len(COMPARED)


def test_most_similar_record_is_the_successor_and_not_the_earliest() -> None:
    alike = [(1, 11, 2), (1, 12, SAME), (2, 11, SAME), (2, 12, 2)]
    assert successors([(7, 1, True), (7, 2, True)], alike) == [(7, 1, 12), (7, 2, 11)]


def test_records_as_like_one_another_are_taken_in_order() -> None:
    alike = [(old, new, SAME) for old, new in product((1, 2), (11, 12))]
    assert successors([(7, 1, True), (7, 2, True)], alike) == [(7, 1, 11), (7, 2, 12)]


def test_where_one_is_left_the_decision_keeps_the_record_that_is_gone() -> None:
    assert successors([(7, 1, True), (7, 2, True)], [(1, 11, 2), (2, 11, SAME)]) == [(7, 2, 11)]


def test_record_that_remains_is_no_successor() -> None:
    assert successors([(7, 1, True), (7, 2, False)], [(1, 2, 3)]) == []


def test_exact_duplicates_of_two_decisions_share_the_one_that_is_left() -> None:
    alike = [(1, 11, SAME), (2, 11, SAME)]
    assert successors([(7, 1, True), (8, 2, True)], alike) == [(7, 1, 11), (8, 2, 11)]
    assert successors([(7, 1, True), (7, 2, True), (8, 2, True)], alike) == [(7, 1, 11), (8, 2, 11)]


def test_another_decisions_record_is_not_shared_by_one_that_differs() -> None:
    assert successors([(7, 1, True), (8, 2, True)], [(1, 11, SAME), (2, 11, SAME - 1)]) == [(7, 1, 11)]


OLD, NEW = range(1, 6), range(11, 16)
rows = st.dictionaries(st.tuples(st.integers(1, 4), st.sampled_from(OLD)), st.none()).flatmap(
    lambda keys: st.sets(st.sampled_from(OLD)).map(lambda gone: [(d, record, record in gone) for d, record in keys])
)
alike = st.dictionaries(st.tuples(st.sampled_from(OLD), st.sampled_from(NEW)), st.integers(0, SAME))


@given(rows, alike)
def test_no_two_records_of_a_decision_become_one(
    rows: list[tuple[int, int, bool]], alike: dict[tuple[int, int], int]
) -> None:
    moves = successors(rows, [(*pair, in_common) for pair, in_common in alike.items()])

    assert {(decision, record) for decision, record, _ in moves} <= {(d, record) for d, record, gone in rows if gone}
    became = {(decision, record): record for decision, record, _ in rows}
    became |= {(decision, record): successor for decision, record, successor in moves}
    for decision in {decision for decision, *_ in rows}:
        of_it = [record for (of, _), record in became.items() if of == decision]
        assert len(of_it) == len({*of_it})
