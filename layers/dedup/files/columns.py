"""What the CRMs and others call the fields of a record."""

import re
from collections.abc import Mapping, Sequence

from dedup.files.tables import Unreadable, quoted
from dedup.records import KNOWN

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
"""What each field is called by Salesforce, HubSpot and others. Case, spaces, hyphens and underscores don't count. Of a
field in KNOWN a file may have several: the first of these names counts."""


def plain(name: str) -> str:
    """The name without what does not count in it."""
    return re.sub(r"[\s_-]+", "", name).casefold()


_FIELD_OF = {plain(alias): field for field, aliases in COLUMNS.items() for alias in aliases}
_RANK = {plain(alias): rank for aliases in COLUMNS.values() for rank, alias in enumerate(aliases)}


def fields(names: Sequence[str]) -> dict[str, int]:
    """The place in `names` of each field that they have. Raises Unreadable when two name one that every record has."""
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        known = _FIELD_OF.get(plain(name))
        if known is None:
            continue
        if known not in found:
            found[known] = place
        elif known not in KNOWN:
            raise Unreadable(f"{quoted(names[found[known]])} and {quoted(name)} are both the {known}")
        elif _RANK[plain(name)] < _RANK[plain(names[found[known]])]:
            found[known] = place
    return found


def is_known(name: str) -> bool:
    """Whether a column of that name holds a field of ours."""
    return plain(name) in _FIELD_OF
