"""A model of the service in plain Python: the records that it stores, and the right answer to each question.

Concurrent clients, or a lost response, allow more than one state. A test keeps a set of states, and removes those that
a response contradicts.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from dedup.customer_ids import CustomerId, order

Values = TypeVar("Values", bound=tuple[CustomerId, ...])


class Row(NamedTuple):
    """One record: its upload and its values."""

    upload: str
    source: str
    customer: CustomerId
    name: str = ""
    email: str = ""


State = tuple[Row, ...]
"""All records, sorted, so that equal states compare equal."""

Analysis = tuple[int, tuple[CustomerId, ...]]
"""The number of records, and the ids of their customers."""

Regions = frozenset[tuple[frozenset[str], int]]
"""The number of customers of each region."""

Content = tuple[tuple[str, CustomerId, str, str], ...]
"""The visible values of all records: source, customer, name and email, sorted."""


def in_order(rows: Iterable[Values]) -> tuple[Values, ...]:
    """Rows of integers and texts, in the order of their values."""
    return tuple(sorted(rows, key=lambda row: [order(value) for value in row]))


def after(state: State, kept: Callable[[Row], bool], added: Iterable[Row] = ()) -> State:
    """The state without the rows that are not `kept`, and with the `added` ones."""
    return in_order([*filter(kept, state), *added])


def replaced(state: State, source: str, rows: Collection[Row], stay: Collection[str] = ()) -> State:
    """The state after a snapshot of a source, with rows of one upload; records of the uploads in `stay` are left alone.
    If it only adds records, the others keep their uploads. Otherwise they are all of the snapshot: it cannot be
    deleted, and neither can the uploads that they are of."""
    others = [row for row in state if row.source != source or row.upload in stay]
    before = [row for row in state if row.source == source and row.upload not in stay]
    [upload] = {row.upload for row in rows}
    held, stated = (Counter(row._replace(upload=upload) for row in part) for part in (before, rows))
    if held - stated:
        return in_order([*others, *rows])
    return in_order([*others, *before, *(stated - held).elements()])


def content_of(state: State) -> Content:
    return in_order((row.source, row.customer, row.name, row.email) for row in state)


def sources_of(rows: Iterable[tuple[str, CustomerId]]) -> dict[CustomerId, frozenset[str]]:
    """The sources of each customer, from pairs of source and customer."""
    found: dict[CustomerId, set[str]] = {}
    for source, customer in rows:
        found.setdefault(customer, set()).add(source)
    return {customer: frozenset(sources) for customer, sources in found.items()}


def analysis_of(state: State) -> Analysis:
    return len(state), tuple(sorted({row.customer for row in state}, key=order))


def regions_of(state: State) -> Regions:
    return regions(sources_of((row.source, row.customer) for row in state).values())


def regions(of_customers: Iterable[frozenset[str]]) -> Regions:
    """The regions of customers, from the sources of each customer."""
    return frozenset(Counter(of_customers).items())


def selected(
    of_customers: dict[CustomerId, frozenset[str]],
    within: Collection[str] = (),
    without: Collection[str] = (),
    exactly: Collection[str] = (),
) -> list[CustomerId]:
    """Brute force: the customers in every source of `within`, in none of `without`, and, unless it is empty, in exactly
    the sources of `exactly`."""
    found = (
        customer
        for customer, sources in of_customers.items()
        if all(name in sources for name in within)
        and not any(name in sources for name in without)
        and (not exactly or set(exactly) == sources)
    )
    return sorted(found, key=order)


@dataclass(frozen=True)
class Write:
    """A request, and its effect on a state. `ask` returns whether it took place; None if that is unknown."""

    ask: Callable[[], bool | None]
    change: Callable[[State], State]


def outcomes(states: set[State], write: Write, took_place: bool | None) -> set[State]:
    """The possible states after a write."""
    changed = {write.change(state) for state in states} if took_place is not False else set()
    return changed | (states if took_place is not True else set())


def orders(states: set[State], writes: list[Write], unknown: Collection[Write] = ()) -> tuple[set[State], set[State]]:
    """All intermediate states and all final states over all orders of the writes. Writes in `unknown` may or may not
    have taken place."""
    on_the_way, at_the_end = set(states), set()
    certain = [write for write in writes if write not in unknown]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            for one in itertools.permutations([*certain, *some]):
                for state in states:
                    for write in one:
                        state = write.change(state)
                        on_the_way.add(state)
                    at_the_end.add(state)
    return on_the_way, at_the_end
