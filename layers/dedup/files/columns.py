"""Maps the column names of CRMs and other systems to the fields of a record."""

from collections.abc import Mapping, Sequence
from typing import Any

from dedup.files.tables import Unreadable, quoted
from dedup.records import KNOWN
from dedup.validation import plain


def _nested(name: str) -> tuple[str, ...]:
    """The names of a field of Salesforce's address objects, as Amazon AppFlow writes them to Parquet."""
    return f"MailingAddress.{name}", f"BillingAddress.{name}"


COLUMNS: Mapping[str, Sequence[str]] = {
    "customer_id": ("customer id", "id", "record id"),
    "name": ("name", "full name"),
    "first_name": ("first name",),
    "last_name": ("last name",),
    "email": ("email", "email address"),
    "source": ("source",),
    "phone": ("phone", "phone number", "business phone", "mobile phone", "mobile phone number", "mobile"),
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
}
"""Column names of each field in Salesforce, HubSpot and other systems. Case, spaces, hyphens and underscores are
ignored.

If a file has several columns for an optional field, each row takes the first of them that has a value, in this order.
For the required fields, a column with the field's own name, which is the first, takes precedence over one other
column."""


_FIELD_OF = {plain(alias): field for field, aliases in COLUMNS.items() for alias in aliases}
_RANK = {plain(alias): rank for aliases in COLUMNS.values() for rank, alias in enumerate(aliases)}


Positions = Mapping[str, Sequence[int]]
"""The column positions of each field, as `fields` returns them."""


def fields(names: Sequence[str]) -> dict[str, list[int]]:
    """Returns the positions in `names` of the columns of each field, in order of precedence. Only optional fields have
    several. Raises Unreadable if the columns of a required field are ambiguous."""
    found: dict[str, list[int]] = {}
    for position in sorted(range(len(names)), key=lambda position: _RANK.get(plain(names[position]), 0)):
        if field := _FIELD_OF.get(plain(names[position])):
            found.setdefault(field, []).append(position)
    return {
        field: positions if field in KNOWN else [_only(field, positions, names)] for field, positions in found.items()
    }


def require(positions: Positions, header: Sequence[str]) -> None:
    """Raises Unreadable if the header lacks a required column."""
    named = "name" in positions or {"first_name", "last_name"} <= positions.keys()
    missing = [name for name in ("customer_id", "email") if name not in positions]
    missing += [] if named else ["name (or first name and last name)"]
    if missing:
        # The header is not quoted: if the file has none, its first row is personal data, and the reason is stored.
        width = f"{len(header)} columns" if len(header) > 1 else "one column" if header else "no columns"
        raise Unreadable(f"No usable header: no column for {' and '.join(missing)}. The first row has {width}")


def _only(field: str, positions: Sequence[int], names: Sequence[str]) -> int:
    first, *others = (_RANK[plain(names[position])] for position in positions)
    if others and (first > 0 or others[0] == 0):
        one, other = (quoted(names[position]) for position in sorted(positions[:2]))
        raise Unreadable(f"{one} and {other} both map to {field}. Remove or rename one of them")
    return positions[0]


def more_emails(names: Sequence[str], found: Mapping[str, Sequence[int]]) -> list[int]:
    """Returns the positions in `names` of columns with addresses that are not read as the email. `found` is the result
    of `fields`."""
    read = found.get("email", ())
    return [position for position, name in enumerate(names) if "email" in plain(name) and position not in read]


def first_values(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Returns the first non-blank value of each row; columns[0] itself if it is the only column."""
    first, *others = columns
    for other in others:
        first = [one if _has_value(one) else second for one, second in zip(first, other, strict=True)]
    return first


def _has_value(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


def is_known(name: str) -> bool:
    """Whether a column of this name maps to a field."""
    return plain(name) in _FIELD_OF
