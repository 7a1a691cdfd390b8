"""Recognises the system that wrote a file by the names of its columns."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from dedup.files.columns import has_column, key, systems
from dedup.files.tables import Unreadable
from dedup.records import one_of
from dedup.settings import settings

_ENOUGH = 2
"""Fewest columns that only one system writes. One name may be a coincidence, and the records of a file that was taken
for another system's would be stored under the wrong source."""


class System(NamedTuple):
    """A system that writes exports: the name of its data file, which is also that of its source, and its own name."""

    source: str
    name: str


@cache
def _marks() -> Mapping[str, System]:
    """Returns the system of each column name that only one system writes."""
    writers: dict[str, set[System]] = {}
    for source, system in systems().items():
        names = [*system["typical"], *(name for several in system["fields"].values() for name in several)]
        for name in names:
            writers.setdefault(key(name), set()).add(System(source, system["system"].partition(":")[0]))
    return MappingProxyType({name: next(iter(found)) for name, found in writers.items() if len(found) == 1})


def system_of(header: Sequence[str]) -> System | None:
    """Returns the system that wrote a file with these column names: the one with most columns that no other system
    writes. None if it is not certain."""
    marks = _marks()
    counts = Counter(marks[name] for name in set(map(key, header)) if name in marks)
    (system, count), (_, second) = [*counts.most_common(2), (None, 0), (None, 0)][:2]
    return system if count >= _ENOUGH and count > second else None


def guessed_source(header: Sequence[str]) -> str | None:
    """Returns the source of a file that has these column names, if no source was given for it: the system that wrote
    the file. None if the file has a column for the source, or if the system is not certain. Raises Unreadable if the
    system is not one of the sources."""
    system = None if has_column("source", header) else system_of(header)
    if system and system.source not in settings().sources:
        raise Unreadable(
            f"The file has no source column, and no source was given for the upload. It looks like an export of "
            f"{system.name}, which is not a source. Expected {one_of(settings().sources)}"
        )
    return system.source if system else None
