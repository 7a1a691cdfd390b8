"""Maps the column names of CRMs and other systems to the fields of a record."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from dedup.files.tables import Unreadable, quoted
from dedup.records import IDENTIFYING, OPTIONAL
from dedup.validation import plain


def _nested(name: str) -> tuple[str, ...]:
    """The names of a field of Salesforce's address objects, as Amazon AppFlow writes them to Parquet."""
    return f"MailingAddress.{name}", f"BillingAddress.{name}"


COLUMNS: Mapping[str, Sequence[str]] = {
    "customer_id": ("customer id", "id", "record id"),
    "name": ("name", "full name"),
    "first_name": ("first name",),
    "last_name": ("last name",),
    "email": (
        "email",
        "email address",
        "emails",
        "email addresses",
        "email 2",
        "email 3",
        "email address 2",
        "email address 3",
    ),
    "source": ("source",),
    "phone": (
        "phone",
        "phone number",
        "business phone",
        "mobile phone",
        "mobile phone number",
        "mobile",
        "phones",
        "phone 2",
        "phone 3",
        "phone number 2",
        "telephone",
        "work phone",
        "cell phone",
    ),
    "company": ("company", "company name", "account name", "associated company", "organization", "organisation"),
    "address": ("address", "street", "street address", "mailing street", "billing street", *_nested("street")),
    "city": ("city", "mailing city", "billing city", "town", *_nested("city")),
    "postcode": (
        "postcode",
        "postal code",
        "zip",
        "zip code",
        "mailing zip/postal code",
        "mailing postal code",
        "billing zip/postal code",
        "billing postal code",
        "zip/postal code",
        *_nested("postalCode"),
    ),
    "country": (
        "country",
        "country/region",
        "mailing country",
        "billing country",
        "mailing country code",
        *_nested("country"),
    ),
    "date_of_birth": ("date of birth", "birthdate", "birth date", "birthday", "dob"),
    "modified_at": (
        "modified at",
        "last modified date",
        "last modified",
        "last modified at",
        "last modified time",
        "modified on",
        "modified time",
        "modified date",
        "date modified",
        "updated at",
        "last updated",
        "last updated at",
        "last update",
        "update time",
        "date updated",
    ),
    "attributes": ("attributes",),
    "deleted": ("deleted", "is deleted", "archived", "is archived", "_fivetran_deleted"),
}
"""Column names of each field that several systems use. Case, spaces, hyphens, underscores and full stops are ignored.
The files in `systems` have the names that a single system uses: of the fields, and of columns that are typical for it.

If a file has several columns for one field, each row takes the first of them that has a value: those in this order,
then those of a system in the order of its file. Of email, phone and deleted, it takes all of them in that order. Only
customer_id and source have one column, see `map_header`."""

SEVERAL = ("email", "phone")
"""Fields that take the values of all their columns, and of which a guess gives several columns."""

_TOGETHER = (*SEVERAL, "deleted")
"""Fields whose columns all count in each row."""

SINGLE = ("customer_id", "source")
"""Fields that one column feeds."""


class Known(NamedTuple):
    """What a column name means: a field, and its rank among the names of the field. The lower rank takes precedence.
    The tier is 0 for the field's own name, 1 for other names of COLUMNS, and 2 for names of a system, whose name is
    `system`."""

    field: str
    tier: int
    position: int
    system: str = ""

    @property
    def rank(self) -> tuple[int, int]:
        """The rank: the tier, then the position among the names of the tier."""
        return self.tier, self.position


def key(name: str) -> str:
    """Returns the form in which column names are compared: `MailingAddress.street` and `Mailing_Address_Street` are
    equal."""
    return plain(name).replace(".", "")


@cache
def systems() -> Mapping[str, Mapping[str, Any]]:
    """Returns the content of each data file in `systems`, by the file's name without its extension. They are read when
    the first file is read, not at import."""
    from importlib.resources import files as resources  # imported here, because most functions read no file

    paths = sorted((resources("dedup.files") / "systems").iterdir(), key=lambda path: path.name)
    return {path.name.removesuffix(".json"): json.loads(path.read_text("utf-8")) for path in paths}


@cache
def _columns() -> Mapping[str, Known]:
    """Returns the meaning of each known name."""
    columns = {
        key(name): Known(field, min(position, 1), position)
        for field, names in COLUMNS.items()
        for position, name in enumerate(names)
    }
    for system in systems().values():
        name_of_system = system["system"].partition(":")[0]
        for field, names in system["fields"].items():
            for position, name in enumerate(names):
                columns.setdefault(key(name), Known(field, 2, position, name_of_system))
    return MappingProxyType(columns)


def names_of(field: str) -> list[str]:
    """Returns the names of a field as `key` returns them, in order of precedence."""
    named = {name: column.rank for name, column in _columns().items() if column.field == field}
    return sorted(named, key=named.__getitem__)


Positions = Mapping[str, Sequence[int]]
"""The column positions of each field, as `map_header` returns them."""


class AmbiguousColumns(NamedTuple):
    """Two columns of which it is not certain which one feeds a field."""

    field: str
    one: str
    other: str

    def error(self) -> Unreadable:
        """The reason why a file with these columns cannot be read."""
        both = f"map to {self.field}. Remove or rename one of them"
        return Unreadable(f"{quoted(self.one)} and {quoted(self.other)} both {both}", f"Several columns {both}")


def recognised(names: Sequence[str]) -> tuple[dict[str, list[int]], list[AmbiguousColumns]]:
    """Returns the positions in `names` of the columns of each field, in order of precedence, and the conflicts: columns
    of the same precedence for customer_id or source, and repeated names for a name or an email.

    customer_id and source have one column: the field's own name takes precedence over the names of COLUMNS, and these
    over the names of a system."""
    columns = _columns()
    known = {position: column for position, name in enumerate(names) if (column := columns.get(key(name)))}
    found: dict[str, list[int]] = {}
    conflicts = []
    for position in sorted(known, key=lambda position: known[position].rank):
        found.setdefault(known[position].field, []).append(position)
    for field, positions in found.items():
        if field in OPTIONAL or field == "deleted":
            continue
        first: dict[str, int] = {}
        for position in positions:
            if (one := first.setdefault(key(names[position]), position)) != position:
                conflicts.append(AmbiguousColumns(field, names[one], names[position]))
                break
        if field in SINGLE and len(positions) > 1:
            one, other = sorted(positions[:2])
            if known[one].tier == known[other].tier and key(names[one]) != key(names[other]):
                conflicts.append(AmbiguousColumns(field, names[one], names[other]))
            found[field] = positions[:1]
    return found, conflicts


def map_header(names: Sequence[str]) -> dict[str, list[int]]:
    """Returns the positions of `recognised`. Raises Unreadable if there is a conflict."""
    found, conflicts = recognised(names)
    for conflict in conflicts:
        raise conflict.error()
    return found


IDENTIFYING_COLUMNS = frozenset({*IDENTIFYING, "first_name", "last_name"})
"""Fields of a file of which at least one has a column."""


def missing_fields(positions: Positions) -> list[str]:
    """Returns what a header with these columns lacks: the id, or any column that identifies a customer. A file of
    deletions may have no more than ids."""
    missing = [] if "customer_id" in positions else ["customer_id"]
    if not positions.keys() & {*IDENTIFYING_COLUMNS, "deleted"}:
        missing.append(f"any of {', '.join(IDENTIFYING)}")
    return missing


def require(positions: Positions, header: Sequence[str]) -> None:
    """Raises Unreadable if the header lacks a required column."""
    if missing := missing_fields(positions):
        # The header is not quoted: if the file has none, its first row is personal data, and the reason is stored.
        width = f"{len(header)} columns" if len(header) > 1 else "one column" if header else "no columns"
        raise Unreadable(f"No usable header: no column for {', or for '.join(missing)}. The first row has {width}")


def more_emails(names: Sequence[str], found: Mapping[str, Sequence[int]]) -> list[int]:
    """Returns the positions in `names` of columns with addresses that are not columns of the email. `found` is the
    result of `map_header`."""
    mapped = found.get("email", ())
    return [position for position, name in enumerate(names) if position not in mapped and "email" in key(name)]


_ATTRIBUTE = "attributes."
_OF_SALESFORCE = {"attributes.type", "attributes.url"}
"""What the API of Salesforce says of each record in `attributes`. It says nothing of the customer."""


def kept_columns(names: Sequence[str], found: Positions) -> dict[str, int]:
    """Returns the position in `names` of each column that becomes an attribute, by the name of the attribute: the
    members of an object `attributes` that map to no field. `found` is the result of `map_header`."""
    mapped = {position for positions in found.values() for position in positions}
    left_out = _OF_SALESFORCE if {*names} >= _OF_SALESFORCE else set()
    return {
        name.removeprefix(_ATTRIBUTE): position
        for position, name in enumerate(names)
        if name.startswith(_ATTRIBUTE) and name != _ATTRIBUTE and position not in mapped and name not in left_out
    }


def values_of(field: str, columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Returns the value of a field of each row: the first of its columns that is not blank; of an email, a phone or a
    mark of deletion, a list of all values if there are several. columns[0] itself if it is the only column."""
    first, *others = columns
    together = _both if field in _TOGETHER else _either
    for other in others:
        if any(other):
            first = list(map(together, first, other))
    return first


def _either(one: Any, other: Any) -> Any:
    return one if _has_value(one) else other


def _both(one: Any, other: Any) -> Any:
    if not _has_value(one) or not _has_value(other):
        return _either(one, other)
    return [*(one if isinstance(one, list) else [one]), *(other if isinstance(other, list) else [other])]


def _has_value(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


def meaning(name: str) -> Known | None:
    """Returns what a column of this name means; None if the name is not known."""
    return _columns().get(key(name))


def is_known(name: str) -> bool:
    """Whether a column of this name maps to a field."""
    return meaning(name) is not None


def has_column(field: str, names: Sequence[str]) -> bool:
    """Whether any of the columns maps to the field."""
    columns = _columns()
    return any(columns[name].field == field for name in map(key, names) if name in columns)
