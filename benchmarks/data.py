"""The records of a benchmark: the same ones for the same size and style of ids, made as they are asked for.

Three sources have a third of the records each, and 60 % of each one's customers are the next one's too: of a million
records there are 600 thousand customers, in five of the seven Venn regions.
"""

import heapq
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

SOURCES = ("salesforce", "hubspot", "internal")
STYLES: tuple["Style", ...] = ("dense", "sparse", "random")
FIRST_NAMES = ("Ada", "Jean-Luc", "Grace", "Zoë", "Linus", "Margaret", "Edsger", "Barbara", "Tim", "Radia")
LAST_NAMES = ("Lovelace", "Hopper", "Okonkwo", "van der Berg", "Nakamura", "García", "Liskov", "Perlman", "O'Neill")
DOMAINS = ("example.com", "mail.example.com", "example.org", "example.net")

Style = Literal["dense", "sparse", "random"]
"""How customer ids lie: 1, 2, 3, …; one in a thousand numbers; or anywhere in 63 bits, as hashes do."""


class Row(NamedTuple):
    """One record."""

    customer_id: int
    name: str
    email: str
    source: str


class Data:
    """`size` records with ids of one style, and further ones to upload."""

    def __init__(self, size: int, style: Style) -> None:
        self.size = size
        self.style = style
        self._per_source = math.ceil(size / len(SOURCES))
        self._shift = self._per_source * 2 // 5
        self.customers = size - (len(SOURCES) - 1) * (self._per_source - self._shift)
        self._uploaded = 0
        windows = {
            name: (number * self._shift, number * self._shift + min(self._per_source, size - number * self._per_source))
            for number, name in enumerate(SOURCES)
        }
        edges = sorted({edge for window in windows.values() for edge in window})
        # Customers one after another who are in the same sources.
        self._stretches = [
            (start, end, tuple(name for name, (first, last) in windows.items() if first <= start and end <= last))
            for start, end in itertools.pairwise(edges)
        ]

    def __iter__(self) -> Iterator[Row]:
        """All records, in an order that mixes sources and ids: what is inserted next lies anywhere in an index."""
        step = _coprime(self.size)
        position = 0
        for _ in range(self.size):
            source, offset = divmod(position, self._per_source)
            yield self._row(source * self._shift + offset, source)
            position = (position + step) % self.size

    def batches(self, count: int) -> Iterator[list[Row]]:
        """Without end: `count` further records, every second one of a new customer."""
        while True:
            start = self._uploaded
            self._uploaded += count
            yield [
                self._row(self.customers + n if n % 2 else _mix(n) % self.customers, n % len(SOURCES))
                for n in range(start, start + count)
            ]

    def states(self, *, is_later: bool) -> Iterator[Row]:
        """`size` records of one source, in an order that mixes their ids, at one of two points in time: later, one in a
        hundred has another name, and one in a thousand is gone and has another in its place."""
        step = _coprime(self.size)
        position = 0
        for _ in range(self.size):
            place = position % 1000
            row = self._row(position + self.size * (is_later and place == 500), 0)
            yield row._replace(name=f"{row.name} Jr") if is_later and place % 100 == 7 else row
            position = (position + step) % self.size

    def regions(self) -> dict[tuple[str, ...], int]:
        """Every region that has customers, and how many."""
        counts: dict[tuple[str, ...], int] = {}
        for start, end, region in self._stretches:
            counts[region] = counts.get(region, 0) + end - start
        return counts

    def last_position(self, count: int, within: Iterable[str] = (), without: Iterable[str] = ()) -> int:
        """The id that exactly `count` ids follow, of the customers in every source of `within` and in none of
        `without`; they must be more than that."""
        ids = (
            self._id(index)
            for start, end, region in self._stretches
            if set(within) <= set(region) and not set(without) & set(region)
            for index in range(start, end)
        )
        return heapq.nlargest(count + 1, ids)[-1]

    def _row(self, index: int, source: int) -> Row:
        first, last = FIRST_NAMES[index % len(FIRST_NAMES)], LAST_NAMES[index % len(LAST_NAMES)]
        email = f"{first.replace('ë', 'e').lower()}.{index}@{DOMAINS[index % len(DOMAINS)]}"
        return Row(self._id(index), f"{first} {last}", email, SOURCES[source])

    def _id(self, index: int) -> int:
        if self.style == "dense":
            return 1 + index
        if self.style == "sparse":
            return 1000 * (1 + index) + _mix(index) % 1000
        return _mix(index) >> 1


def body(rows: Iterable[Row]) -> bytes:
    """The body of a bulk upload: JSON in UTF-8."""
    return json.dumps({"customers": [row._asdict() for row in rows]}).encode()


def _mix(value: int) -> int:
    """64 bits that look random, the same for the same value (splitmix64). Different values give different ones."""
    value = (value + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 31


def _coprime(size: int) -> int:
    """A step of about 0.618 of `size` that visits every position below it before it comes back to the first."""
    step = max(1, int(size * 0.6180339887))
    while math.gcd(step, size) != 1:
        step += 1
    return step
