"""A model of the service in plain Python: which records there are, and what every question has to answer.

Several clients at once, or a request whose answer was lost, leave more than one possible state: a set of states is
kept, and those that an answer does not agree with are given up.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Row(NamedTuple):
    """One record: the upload that brought it, and what it says."""

    upload: str
    source: str
    customer: int
    name: str = ""
    email: str = ""


State = tuple[Row, ...]
"""All records, in order, so that equal states are equal."""

Analysis = tuple[int, tuple[int, ...]]
"""How many records there are, and the ids of their customers."""

Regions = frozenset[tuple[frozenset[str], int]]
"""How many customers are in exactly which sources."""

Content = tuple[tuple[str, int, str, str], ...]
"""What can be read of all records: source, customer, name and email, in order."""


def after(state: State, kept: Callable[[Row], bool], added: Iterable[Row] = ()) -> State:
    """The state with those rows that are kept, and with others."""
    return tuple(sorted([*filter(kept, state), *added]))


def content_of(state: State) -> Content:
    return tuple(sorted(row[1:] for row in state))


def sources_of(rows: Iterable[tuple[str, int]]) -> dict[int, frozenset[str]]:
    """The sources of each customer, of pairs of source and customer."""
    found: dict[int, set[str]] = {}
    for source, customer in rows:
        found.setdefault(customer, set()).add(source)
    return {customer: frozenset(sources) for customer, sources in found.items()}


def analysis_of(state: State) -> Analysis:
    return len(state), tuple(sorted({row.customer for row in state}))


def regions_of(state: State) -> Regions:
    return regions(sources_of((row.source, row.customer) for row in state).values())


def regions(of_customers: Iterable[frozenset[str]]) -> Regions:
    """The regions of some customers, of whom the sources are given."""
    return frozenset(Counter(of_customers).items())


def selected(
    of_customers: dict[int, frozenset[str]],
    within: Collection[str] = (),
    without: Collection[str] = (),
    exactly: Collection[str] = (),
) -> list[int]:
    """Brute force: the customers in every one of `within`, in none of `without`, and, where it names any, in all of
    `exactly` and no other."""
    return sorted(
        customer
        for customer, sources in of_customers.items()
        if all(name in sources for name in within)
        and not any(name in sources for name in without)
        and (not exactly or set(exactly) == sources)
    )


@dataclass(frozen=True)
class Write:
    """Something to ask for, and what it does to a state. `ask` says whether it took place; None where nobody knows."""

    ask: Callable[[], bool | None]
    change: Callable[[State], State]


def outcomes(states: set[State], write: Write, took_place: bool | None) -> set[State]:
    """The states that there may be after a write."""
    changed = {write.change(state) for state in states} if took_place is not False else set()
    return changed | (states if took_place is not True else set())


def orders(states: set[State], writes: list[Write], unknown: Collection[Write] = ()) -> tuple[set[State], set[State]]:
    """Every state on the way, and every one at the end, over all orders of the writes; of those of `unknown` outcome
    each may be left out."""
    on_the_way, at_the_end = set(states), set()
    certain = [write for write in writes if write not in unknown]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            for order in itertools.permutations([*certain, *some]):
                for state in states:
                    for write in order:
                        state = write.change(state)
                        on_the_way.add(state)
                    at_the_end.add(state)
    return on_the_way, at_the_end
