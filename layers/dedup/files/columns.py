"""What the CRMs and others call the fields of a record."""

from collections.abc import Mapping, Sequence
from typing import Any

from dedup.files.tables import Unreadable, quoted
from dedup.records import KNOWN
from dedup.validation import plain

COLUMNS: Mapping[str, Sequence[str]] = {
    "customer_id": ("customer id", "id", "record id"),
    "name": ("name", "full name"),
    "first_name": ("first name",),
    "last_name": ("last name",),
    "email": ("email", "email address"),
    "source": ("source",),
    "phone": ("phone", "phone number", "business phone", "mobile phone", "mobile phone number", "mobile"),
    "company": ("company", "company name", "account name", "associated company", "organization", "organisation"),
    "address": ("address", "street", "street address", "mailing street", "billing street"),
    "city": ("city", "mailing city", "billing city", "town"),
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
    ),
    "country": ("country", "country/region", "mailing country", "billing country", "mailing country code"),
    "date_of_birth": ("date of birth", "birthdate", "birth date", "birthday", "dob"),
}
"""What each field is called by Salesforce, HubSpot and others. Case, spaces, hyphens and underscores don't count. Of
several columns for one field the first in this order counts: of those in KNOWN, in each row the first that says
something; of others the one with the field's own name, which is the first, and no column else."""


_FIELD_OF = {plain(alias): field for field, aliases in COLUMNS.items() for alias in aliases}
_RANK = {plain(alias): rank for aliases in COLUMNS.values() for rank, alias in enumerate(aliases)}


def fields(names: Sequence[str]) -> dict[str, list[int]]:
    """The places in `names` of each field that they have, in the order in which they count; several of KNOWN only.
    Raises Unreadable where it is not certain which is meant."""
    found: dict[str, list[int]] = {}
    for place in sorted(range(len(names)), key=lambda place: _RANK.get(plain(names[place]), 0)):
        if field := _FIELD_OF.get(plain(names[place])):
            found.setdefault(field, []).append(place)
    return {field: places if field in KNOWN else [_only(field, places, names)] for field, places in found.items()}


def _only(field: str, places: Sequence[int], names: Sequence[str]) -> int:
    first, *others = (_RANK[plain(names[place])] for place in places)
    if others and (first > 0 or others[0] == 0):
        one, other = (quoted(names[place]) for place in sorted(places[:2]))
        raise Unreadable(f"{one} and {other} are both the {field}")
    return places[0]


def more_emails(names: Sequence[str], found: Mapping[str, Sequence[int]]) -> list[int]:
    """The places in `names` of columns for addresses that no field is read from; `found`: what `fields` says."""
    read = found.get("email", ())
    return [place for place, name in enumerate(names) if "email" in plain(name) and place not in read]


def first_told(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Of each row the first of its values that says something; columns[0] itself where there is no other."""
    first, *others = columns
    for other in others:
        first = [one if _tells(one) else second for one, second in zip(first, other, strict=True)]
    return first


def _tells(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


def is_known(name: str) -> bool:
    """Whether a column of that name holds a field of ours."""
    return plain(name) in _FIELD_OF
