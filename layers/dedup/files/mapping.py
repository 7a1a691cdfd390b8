"""Column mappings: which column of a file feeds which field of a record.

A `Mapper` decides about one file. Every reader asks it with the header, before the first row is read:

    a mapping that the sender gave ─▶ a saved mapping of the same header ─▶ names that are known ─▶ NeedsMapping

Content decides nothing without a question: what the values look like (`inference`) is only proposed."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dedup.files.columns import (
    COLUMNS,
    IDENTIFYING_COLUMNS,
    SINGLE,
    Positions,
    kept_columns,
    key,
    meaning,
    missing_fields,
    more_emails,
    recognised,
    require,
    values_of,
)
from dedup.files.inference import ColumnGuess, looks_like_data, propose
from dedup.files.samples import chosen_rows
from dedup.files.tables import NO_RULES, Rejected, Rules, Table, Unreadable, quoted, writable
from dedup.records import IDENTIFYING_NAMES, MAX_ATTRIBUTES

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

IGNORE = "ignore"
"""What a mapping says of a column that feeds no field."""

FIELDS = (*COLUMNS, IGNORE)
"""What a column may be mapped to."""

MAX_NAME = 255
MAX_MAPPED = 1_000
"""Most characters of a column name, and most columns, of a file that can be mapped by its sender."""

SAMPLE_ROWS = 200
SAMPLE_CHARS = 4 << 20
"""Rows whose values are looked at: so many, or fewer if they are long."""

_SIMILAR = 0.5
"""Share of common column names from which a header counts as a changed form of a saved one."""

Cells = Sequence[Any]
Sample = Callable[[], Sequence[tuple[int, Cells]]]
"""Returns the first rows of the file, with their line numbers. It may consume the file, because a question follows."""


@dataclass(frozen=True)
class ColumnMapping:
    """Which column feeds which field, by column name as `column_names` returns it. A column that is not named is
    ignored. `id_column` is the column whose values are the ids, beside its field; an email address is case-folded then.
    `generates_ids`: ids are made from the content of each row. `keep` names the columns that become attributes."""

    columns: Mapping[str, str]
    id_column: str | None = None
    generates_ids: bool = False
    date_order: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, str]:
        """The field of each column that feeds one."""
        return {name: fed for name, fed in self.columns.items() if fed != IGNORE}

    @property
    def names(self) -> set[str]:
        """The columns that the mapping needs."""
        return {*self.fields, *self.keep, *([self.id_column] if self.id_column else ())}

    def as_json(self) -> dict[str, Any]:
        """The form in which mappings are stored and sent."""
        chosen = {"column": self.id_column} if self.id_column else {"generate": True} if self.generates_ids else None
        return {"columns": dict(self.columns), "id": chosen, "date_order": self.date_order, "keep": list(self.keep)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ColumnMapping":
        """The mapping of which `stored` is the form that as_json() returns. Missing members have their default."""
        chosen = stored.get("id") or {}
        return cls(
            dict(stored["columns"]),
            chosen.get("column"),
            bool(chosen.get("generate")),
            stored.get("date_order"),
            tuple(stored.get("keep") or ()),
        )


class SavedMapping(NamedTuple):
    """A mapping that is saved for files with these column names."""

    header: Sequence[str]
    mapping: ColumnMapping

    def fits(self, names: Sequence[str]) -> bool:
        """Whether the columns are the same, in any order and spelling."""
        return {*map(key, self.header)} == {*map(key, names)}

    def similarity(self, names: Sequence[str]) -> float:
        """The share of common columns, from 0 to 1."""
        theirs, ours = {*map(key, self.header)}, {*map(key, names)}
        return len(ours & theirs) / max(1, len(ours | theirs))

    def of(self, names: Sequence[str]) -> ColumnMapping:
        """The mapping for columns that may be spelt differently. Columns that are not among `names` are left out."""
        # A name that is spelt the same comes first: two names may differ in spelling alone.
        now = {key(name): name for name in reversed(names)} | {name: name for name in names}
        found = {name: now.get(name) or now.get(key(name)) for name in self.header}
        renamed = {name: other for name, other in found.items() if other}
        return replace(
            self.mapping,
            columns={renamed[name]: fed for name, fed in self.mapping.columns.items() if name in renamed},
            id_column=renamed.get(self.mapping.id_column or ""),
            keep=tuple(renamed[name] for name in self.mapping.keep if name in renamed),
        )


class NeedsMapping(Unreadable):
    """The columns of the file are not certain. The message is the reason. `columns` has what is proposed for each
    column, `proposal` the same as a mapping, and `rows` some rows of the file with their line numbers."""

    def __init__(
        self,
        reason: str,
        kind: str,
        columns: Sequence[ColumnGuess],
        proposal: ColumnMapping,
        rows: Sequence[tuple[int, Sequence[str]]],
    ) -> None:
        super().__init__(reason, kind)
        self.columns = columns
        self.proposal = proposal
        self.rows = rows


class InvalidMapping(Exception):
    """A mapping does not fit the columns of the file. `loc` is the path of the member in the form of as_json()."""

    def __init__(self, loc: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.loc = loc


def column_names(header: Sequence[Any]) -> list[str]:
    """Returns a unique name for each column: its own on one line; `Column 3` without one; `Email (2)` if repeated."""
    names: list[str] = []
    taken: set[str] = set()
    for position, cell in enumerate(header, 1):
        own = writable(" ".join(_CONTROLS.sub(" ", str(cell)).split()), MAX_NAME - 10) or f"Column {position}"
        name, number = own, 1
        while name in taken:
            number += 1
            name = f"{own} ({number})"
        taken.add(name)
        names.append(name)
    return names


def check(mapping: ColumnMapping, names: Collection[str], *, has_source: bool) -> None:
    """Raises InvalidMapping unless the mapping fits a file with these columns. `has_source`: the upload states the
    source of its rows."""
    known = set(names)
    for name in mapping.columns:
        if name not in known:
            raise InvalidMapping(("columns", name), f"The file has no column {quoted(name)}")
    for at, name in enumerate(mapping.keep):
        if name not in known:
            raise InvalidMapping(("keep", at), f"The file has no column {quoted(name)}")
    if len(mapping.keep) > MAX_ATTRIBUTES:
        raise InvalidMapping(("keep",), f"At most {MAX_ATTRIBUTES} columns can be kept")
    _check_fields(mapping)
    if mapping.id_column is not None and mapping.id_column not in known:
        raise InvalidMapping(("id", "column"), f"The file has no column {quoted(mapping.id_column)}")
    if not has_source and "source" not in mapping.fields.values():
        raise InvalidMapping(("source",), "State the source of the rows, or map a column to source")


def _check_fields(mapping: ColumnMapping) -> None:
    first: dict[str, str] = {}
    for name, fed in mapping.fields.items():
        if fed in SINGLE and (other := first.setdefault(fed, name)) != name:
            raise InvalidMapping(("columns", name), f"Only one column can feed {fed}, and {quoted(other)} does")
    chooses = mapping.id_column is not None or mapping.generates_ids
    if chooses and "customer_id" in first:
        raise InvalidMapping(("id",), f"The column {quoted(first['customer_id'])} is mapped to customer_id already")
    if not chooses and "customer_id" not in first:
        raise InvalidMapping(("columns",), "Map a column to customer_id, or state id")
    if not {*IDENTIFYING_COLUMNS, "deleted"} & set(mapping.fields.values()):
        raise InvalidMapping(("columns",), f"Map a column to at least one of {IDENTIFYING_NAMES}")


@dataclass(frozen=True)
class Layout:
    """How the rows of a file, or the objects of one shape, are read: positions of the columns."""

    positions: Positions
    more_emails: Sequence[int] = ()
    kept: Mapping[str, int] = field(default_factory=dict)
    rules: Rules = NO_RULES
    header: Sequence[str] = ()

    def table(
        self, lines: Sequence[int], raws: Sequence[str], rows: Sequence[Cells], rejected: Sequence[Rejected] = ()
    ) -> Table:
        """Returns the table of these rows of cells. `lines` are their line numbers, `raws` their original texts."""
        # A row may be longer than the header, by blank cells. Without rows there are no columns.
        values: Mapping[int, Sequence[Any]] = dict(enumerate(zip(*rows, strict=False)))
        columns = {
            name: values_of(name, [values.get(position, ()) for position in several])
            for name, several in self.positions.items()
        }
        spare = [[row[at] for at in self.more_emails] for row in rows] if self.more_emails else ()
        kept = [{name: row[at] for name, at in self.kept.items()} for row in rows] if self.kept else ()
        return Table(lines, raws, columns, rejected, spare, self.header, kept, self.rules)

    @property
    def id_position(self) -> int | None:
        """The position of the column that feeds the id; None if ids are generated."""
        return next(iter(self.positions.get("customer_id", ())), None)


def sampled(rows: Iterable[tuple[int, Cells]]) -> list[tuple[int, Cells]]:
    """Takes the first rows, with their lines, for a Sample."""
    taken: list[tuple[int, Cells]] = []
    size = 0
    for row in rows:
        taken.append(row)
        size += sum(len(str(cell)) for cell in row[1])
        if len(taken) >= SAMPLE_ROWS or size >= SAMPLE_CHARS:
            break
    return taken


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


class Mapper:
    """Decides how the columns of one file are read. `mapping` is what its sender stated, `saved` what is saved for its
    source. `review`: the sender wants to check the mapping in any case."""

    def __init__(
        self, mapping: ColumnMapping | None = None, saved: Sequence[SavedMapping] = (), *, review: bool = False
    ) -> None:
        self._mapping = mapping
        self._saved = saved
        self._review = review
        self._applied: ColumnMapping | None = None
        self.understood: Sequence[ColumnGuess] = ()
        """What the columns were taken for; empty until the header was read."""

    @property
    def is_stated(self) -> bool:
        """Whether the sender stated the mapping."""
        return self._mapping is not None

    def recognises(self, header: Sequence[Any]) -> bool:
        """Whether the cells are a header that a mapping, a saved mapping or the names of columns explain."""
        names = column_names(header)
        if self._mapping:
            return self._mapping.names <= set(names)
        found, conflicts = recognised(list(map(str, header)))
        return not (missing_fields(found) or conflicts) or self._saved_for(names) is not None

    def layout(self, header: Sequence[Any], sample: Sample) -> Layout:
        """Returns how the rows below the header are read. Raises NeedsMapping if that is not certain, and Unreadable if
        the file cannot be mapped either: it has no rows, or no header."""
        names = column_names(header)
        mapping = self._mapping or self._saved_for(names)
        if mapping and not self._review:
            layout = layout_of(mapping, names, list(map(str, header)), strict=True)
            self._applied = mapping
            self.understood = [_stated(name, mapping) for name in names]
            return layout
        plain = list(map(str, header))
        found, conflicts = recognised(plain)
        changed = None if mapping else self._changed(names)
        if not (conflicts or missing_fields(found) or changed or self._review):
            self.understood = propose(plain, names, [])
            return Layout(found, more_emails(plain, found), kept_columns(plain, found), header=plain)
        rows = sample()
        if _is_unusable(plain, rows):
            for conflict in conflicts:
                raise conflict.error()
            require(found, header)
        raise self._question(plain, names, rows, mapping or (changed.of(names) if changed else None), changed)

    def shape(self, keys: tuple[str, ...]) -> Layout:
        """Returns how objects with these keys are read, after `layout` was asked with the keys of the first objects.
        Raises Unreadable if several keys have the same meaning."""
        if self._applied:
            return layout_of(self._applied, column_names(keys), keys, strict=False)
        found, conflicts = recognised(keys)
        for conflict in conflicts:
            raise conflict.error()
        return Layout(found, more_emails(keys, found), kept_columns(keys, found), header=keys)

    def _saved_for(self, names: Sequence[str]) -> ColumnMapping | None:
        return next((saved.of(names) for saved in self._saved if saved.fits(names)), None)

    def _changed(self, names: Sequence[str]) -> SavedMapping | None:
        """The saved mapping of which the header is a changed form: the most similar one."""
        nearest = max(self._saved, key=lambda saved: saved.similarity(names), default=None)
        return nearest if nearest and nearest.similarity(names) >= _SIMILAR else None

    def _question(
        self,
        header: Sequence[str],
        names: Sequence[str],
        rows: Sequence[tuple[int, Cells]],
        base: ColumnMapping | None,
        changed: SavedMapping | None,
    ) -> NeedsMapping:
        texts = [(line, [_text(cell) for cell in cells]) for line, cells in rows[:SAMPLE_ROWS]]
        columns = propose(header, names, [cells for _, cells in texts])
        if base:
            columns = [_rebased(column, base, changed) for column in columns]
        reason, kind = (_REVIEW, _REVIEW) if base and not changed else self._reason(header, changed, names)
        return NeedsMapping(reason, kind, columns, _proposal(columns, base, texts), chosen_rows(texts, len(names)))

    def _reason(self, header: Sequence[str], changed: SavedMapping | None, names: Sequence[str]) -> tuple[str, str]:
        """Why the mapping is not certain, and the same without names of columns."""
        if changed:
            before, now = {key(name): name for name in changed.header}, {key(name): name for name in names}
            new = ", ".join(quoted(now[one]) for one in now if one not in before)
            gone = ", ".join(quoted(before[one]) for one in before if one not in now)
            parts = [f"new: {new}"] * bool(new) + [f"missing: {gone}"] * bool(gone)
            kind = "The header differs from that of the saved mapping"
            return writable(f"{kind} ({'; '.join(parts)}). Check the mapping", 1_000), kind
        found, conflicts = recognised(header)
        for conflict in conflicts:
            both = f"both map to {conflict.field}"
            return (
                f"{_UNCERTAIN}: {quoted(conflict.one)} and {quoted(conflict.other)} {both}",
                f"Several columns {both}",
            )
        if missing := missing_fields(found):
            reason = f"{_UNCERTAIN}: no column for {', or for '.join(missing)}"
            return reason, reason
        return _REVIEW, _REVIEW


_REVIEW = "A check of the mapping was requested"
_UNCERTAIN = "The mapping of the columns is not certain"


def layout_of(mapping: ColumnMapping, names: Sequence[str], header: Sequence[str], *, strict: bool) -> Layout:
    """Returns the layout that a mapping gives columns. `names` are unique, `header` has the names as written. Raises
    Unreadable if a column is missing and `strict`."""
    at = {name: position for position, name in enumerate(names)}
    if strict and (missing := sorted(mapping.names - at.keys())):
        raise Unreadable(f"The file has no column {quoted(missing[0])}, which the mapping names")
    positions: dict[str, list[int]] = {}
    for position in sorted((at[name] for name in mapping.fields if name in at), key=lambda one: _rank(header, one)):
        positions.setdefault(mapping.fields[names[position]], []).append(position)
    if mapping.id_column in at:
        positions["customer_id"] = [at[mapping.id_column]]
    rules = Rules(mapping.generates_ids, _is_email(mapping, mapping.id_column), mapping.date_order)
    kept = kept_columns(header, positions) | {name: at[name] for name in mapping.keep if name in at}
    return Layout(positions, more_emails(header, positions), kept, rules, header)


def _is_email(mapping: ColumnMapping, name: str | None) -> bool:
    return name is not None and mapping.columns.get(name) == "email"


def _rank(header: Sequence[str], position: int) -> tuple[Any, ...]:
    """The precedence of a column among those of its field: known names first, in their order."""
    known = meaning(header[position])
    return (0, known.rank, position) if known else (1, (0, 0), position)


def _stated(name: str, mapping: ColumnMapping) -> ColumnGuess:
    return ColumnGuess(name, mapping.fields.get(name), 1.0, "Stated in the mapping")


def _rebased(column: ColumnGuess, base: ColumnMapping, changed: SavedMapping | None) -> ColumnGuess:
    """The guess for a column, or what a saved mapping says of it. A new column must not feed a field twice."""
    if changed is None or key(column.name) in {*map(key, changed.header)}:
        return _stated(column.name, base)._replace(reason="From the saved mapping")
    if column.field in base.fields.values():
        return column._replace(field=None, confidence=0.5, reason=f"Another column feeds {column.field}")
    return column


def _proposal(
    columns: Sequence[ColumnGuess], base: ColumnMapping | None, rows: Sequence[tuple[int, Sequence[str]]]
) -> ColumnMapping:
    """The mapping of the guesses. Without an id, the email is proposed if it is unique, or else generated ids."""
    fields = {column.name: column.field or IGNORE for column in columns}
    if base:
        keep = tuple(name for name in base.keep if name in fields)
        id_column = base.id_column if base.id_column in fields else None
        if id_column or base.generates_ids or "customer_id" in fields.values():
            return ColumnMapping(fields, id_column, base.generates_ids, base.date_order, keep)
    if "customer_id" in fields.values():
        return ColumnMapping(fields)
    for at, column in enumerate(columns):
        values = [cells[at].strip().casefold() for _, cells in rows if at < len(cells)]
        if column.field == "email" and values and all(values) and len({*values}) == len(values):
            return ColumnMapping(fields, id_column=column.name)
    return ColumnMapping(fields, generates_ids=True)


def _is_unusable(header: Sequence[str], rows: Sequence[tuple[int, Cells]]) -> bool:
    """Whether nobody could map the columns: there are no rows, no names, too many columns, or a single column that does
    not have addresses."""
    if not rows or not header or len(header) > MAX_MAPPED or looks_like_data(header):
        return True
    if max(map(len, header)) > MAX_NAME:
        return True
    return len(header) == 1 and not any("@" in _text(cells[0]) for _, cells in rows if cells)
