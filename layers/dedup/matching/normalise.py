"""The normalised values of a record's fields: one spelling for each name, address or number.

Pure: text in, text or None out; arguments are never changed. None means that nothing is left to compare. Every function
is idempotent: its own result comes back unchanged. Packages beyond the standard library are imported when the first
value needs them: phonenumbers by `phone`, anyascii by `fold` for letters that are not ASCII.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import dropwhile
from types import MappingProxyType
from typing import Any, NamedTuple

from dedup.matching.vocabulary import vocabulary
from dedup.validation import is_address

_CACHED = 1 << 17
"""Distinct values that are cached per function: names, cities and companies recur often."""

LONGEST = 255
"""Length to which text that is not ASCII is cut, the same as the limit of a field: one letter may become eighteen."""

_ALONE = re.compile(r"(?<!\w)[ぁ-ゖァ-ヺ㐀-鿿가-힣](?!\w)")
_APOSTROPHES = re.compile(r"['`]")
_NO_WORD = re.compile(r"[\W_]+")
_NO_ALPHANUMERIC = re.compile(r"[^0-9A-Z]+")


@lru_cache(_CACHED)
def fold(text: str) -> str:
    """The text in ASCII, without case, accents, compatibility forms and runs of white space: `Ｚoë  MÜLLER` → `zoe
    muller`, `Юлия` → `yuliya`. In ASCII all engines count letters the same way, and a name is the same in two
    alphabets."""
    return " ".join((text if text.isascii() else _in_ascii(text)).lower().split())


def _in_ascii(text: str) -> str:
    from anyascii import anyascii

    composed = unicodedata.normalize("NFKC", text)
    # anyascii describes symbols in words: an emoji would become the family name "grinning".
    letters = (
        " " if not letter.isascii() and unicodedata.category(letter)[0] == "S" else letter
        for letter in composed
        if not unicodedata.combining(letter)
    )
    # A word of one syllable or ideograph must not look like an initial when it is spelled with one letter: 이 → ih.
    spelled = _ALONE.sub(lambda found: anyascii(found[0]).ljust(2, "h"), "".join(letters))
    return anyascii(spelled)[:LONGEST]


def _words(text: str) -> list[str]:
    return _NO_WORD.sub(" ", _APOSTROPHES.sub("", fold(text))).split()


# Names


@cache
def _classes() -> Mapping[str, tuple[str, str | None]]:
    """For each known given name, the name that stands for its class, and its full name; None if it is short for
    several."""
    known: dict[str, tuple[str, str | None]] = {}
    for one in vocabulary().nicknames:
        stem = next(iter(one))
        of_class: dict[str, tuple[str, str | None]] = {}
        for full, short in one.items():
            for given in (full, *short):
                of_class[given] = (stem, None if given in of_class else full)
        known = of_class | known
    return MappingProxyType(known)


@cache
def _names_of() -> Mapping[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for given, (stem, _) in _classes().items():
        names[stem] = (*names.get(stem, ()), given)
    return MappingProxyType(names)


def root(given: str) -> str:
    """The name that stands for all names that a person called `given` may use: `bill` and `william` → `william`, `pat`,
    `patrick` and `patricia` → `patrick`."""
    return _classes().get(given, (given, None))[0]


def formal(given: str) -> str | None:
    """The full name that a given name is or is short for: `bill` and `william` → `william`, `trish` → `patricia`. None
    if it is unknown or ambiguous: `pat` may be a Patrick or a Patricia."""
    return _classes().get(given, (given, None))[1]


class PersonName(NamedTuple):
    """The parts of a name, each one word without spaces, hyphens or accents; None for a part that was not given."""

    given: str | None
    family: str | None
    root: str | None
    """See the function `root`."""
    formal: str | None
    """See the function `formal`. Different values mean different people."""

    @property
    def initials(self) -> str | None:
        """The first letters of both parts in alphabetical order, so that swapped parts give the same."""
        return "".join(sorted(part[0] for part in (self.root, self.family) if part)) or None


@lru_cache(_CACHED)
def name(text: str | None) -> PersonName:
    """The parts of a full name, as `Given Middle Family` or `Family, Given Middle`, without titles and suffixes.

    `Dr. José Ángel van den Berg Jr.` and `Van den Berg, José` → given jose, family vandenberg. A single word is a given
    name, or a family name if a comma follows it."""
    before, comma, after = (text or "").partition(",")
    first, last = _name_words(before), _name_words(after)
    if comma and not (last and vocabulary().suffixes.issuperset(last)):
        given, family = last[:1], first
    else:
        place = _family_begins(first)
        given = first[:1]
        family = first[place:] if place else first[1:][-1:]
    called, surname = "".join(given) or None, "".join(family) or None
    return PersonName(called, surname, root(called) if called else None, formal(called) if called else None)


def _family_begins(words: Sequence[str]) -> int | None:
    """The index at which a family name with particles begins, such as `van den berg`; None without one. Particles of a
    given name, as in `maria del carmen garcia`, do not count."""
    known = vocabulary()
    n = 1
    while n < len(words) - 1:
        after = next((m for m in range(n, len(words) - 1) if words[m] not in known.particles), len(words) - 1)
        if after > n and (after == len(words) - 1 or words[after] not in known.given_names_with_particles):
            return n
        n = after + 1
    return None


def _name_words(text: str) -> list[str]:
    words = [w for part in fold(text).replace(".", " ").split() if (w := "".join(_words(part)))]
    known = vocabulary()
    untitled = dropwhile(known.leading_titles.__contains__, words)
    return [word for word in untitled if word not in known.titles and word not in known.suffixes] or words


# Contacts


@dataclass(frozen=True)
class MailProvider:
    """What a mail provider ignores in the part of an address before the @."""

    domain: str | None = None
    """The domain that replaces all domains of the provider; None keeps the domain."""
    dots: bool = True
    """False if j.doe and jdoe are the same mailbox."""
    tag: str | None = None
    """The separator before a tag that is not part of the mailbox: the `+` of jdoe+news."""


def email(text: str | None, providers: Mapping[str, MailProvider]) -> str | None:
    """The mailbox of an address: `J.Doe+news@GoogleMail.com` → `jdoe@gmail.com`. None if the address is not valid:
    `none@none` or a list of addresses identifies nobody.

    `providers`: the rules by domain; `*` is for all others. All domains of a provider must have the same rule."""
    folded = unicodedata.normalize("NFKC", text or "").casefold().strip()
    # A second time: changing case can leave characters that compose.
    local, _, domain = unicodedata.normalize("NFKC", folded).rpartition("@")
    domain = domain.strip(".")
    if not is_address(f"{local}@{domain}"):
        return None
    provider = providers.get(domain) or providers.get("*") or MailProvider()
    if provider.tag:
        local = local.partition(provider.tag)[0].rstrip(".") or local
    if not provider.dots:
        local = local.replace(".", "") or local
    return f"{local}@{provider.domain or domain}"


def mailbox(address: str | None, who: PersonName) -> str | None:
    """The part before the @ of an address as `email` returns it, if it identifies a person beyond the name; else None.
    For Jane Doe that is `jd.miles82`, but not `jane.doe`, `jdoe` or `janet.doe2`: another Jane Doe may have these, and
    a single digit tells two people apart at one provider only."""
    local = fold((address or "").rpartition("@")[0])
    rest = _NO_WORD.sub("", local)
    names = {who.family, who.given, *_names_of().get(who.root or "", ())}
    for part in sorted(filter(None, names), key=lambda part: (-len(part), part)):
        rest = rest.replace(part, "", 1)
    return local if len(rest) > 2 or (len(rest) == 2 and rest.isdigit()) else None


_DIGITS = re.compile(r"[ ().-]+")
_NANP = re.compile(r"(?:\+?1)?([2-9]\d{9})")


def phone(text: str | None, region: str) -> str | None:
    """The number in E.164 (`+12025550123`), without an extension; None if it is not a possible number.

    `region`: two letters of ISO 3166, the country of numbers without a country code."""
    if not text:
        return None
    digits = _DIGITS.sub("", text)
    # Most numbers of North America. phonenumbers returns the same for them, fifty times slower.
    if (region in ("US", "CA") or digits.startswith("+1")) and digits.isascii() and (usual := _NANP.fullmatch(digits)):
        return f"+1{usual[1]}"
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


# Places


@lru_cache(_CACHED)
def country(text: str | None) -> str | None:
    """The two letters of ISO 3166 if the text is these or a known name of the country; otherwise the folded text."""
    folded = " ".join(_words(text or ""))
    if known := vocabulary().countries.get(folded):
        return known
    return folded.upper() if len(folded) == 2 and folded.isalpha() else folded or None


def postcode(text: str | None, country_code: str | None = None) -> str | None:
    """Letters and digits only, in capitals; of a ZIP+4 the first five digits.

    In the United States the leading zeros that a spreadsheet removed are restored."""
    raw = fold(text or "").upper()
    if re.fullmatch(r"\d{5}-\d{4}", raw):
        raw = raw[:5]
    code = _NO_ALPHANUMERIC.sub("", raw)
    if country_code == "US" and code.isdigit():
        code = code.zfill(5)[:5]
    return code or None


@lru_cache(_CACHED)
def address(text: str | None) -> str | None:
    """The folded street address, with common words in their short form: `12 Saint John's Street` → `12 st johns st`."""
    short = vocabulary().address_words
    return " ".join(short.get(word, word) for word in _words(text or "")) or None


@lru_cache(_CACHED)
def city(text: str | None) -> str | None:
    """The folded name of a place, with `saint` and `mount` in their short form."""
    return " ".join({"saint": "st", "mount": "mt"}.get(word, word) for word in _words(text or "")) or None


# Companies and dates


@lru_cache(_CACHED)
def company(text: str | None) -> str | None:
    """The folded name of a company, without its legal form and a leading `the`: `The Müller & Co. KG` → `muller`."""
    words = [word for word in _words((text or "").replace("&", " and ")) if word]
    if words[:1] == ["the"]:
        words = words[1:] or words
    legal_forms = vocabulary().legal_forms
    while len(words) > 1 and (words[-1] == "and" or words[-1] in legal_forms):
        words.pop()
    return " ".join(words) or None


_DATES = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:[T ].*)?"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
)


def date(text: str | None, placeholders: frozenset[str]) -> str | None:
    """A date as `YYYY-MM-DD`, from the same form, `YYYYMMDD` or `DD.MM.YYYY`. None for other forms, since 03/04 is
    ambiguous, for `placeholders`, and for a month or day of zeros.

    A day that does not exist is kept: it is probably a typing error, and close to the right day."""
    raw = (text or "").strip()
    found = next((match for form in _DATES if raw.isascii() and (match := form.fullmatch(raw))), None)
    if not found:
        return None
    iso = f"{found['y']}-{int(found['m']):02}-{int(found['d']):02}"
    return None if iso in placeholders or "00" in (iso[5:7], iso[8:]) else iso


@dataclass(frozen=True)
class Conventions:
    """What normalising depends on besides the values."""

    region: str
    """The country of records without one, by which their phone numbers and postcodes are read."""
    providers: Mapping[str, MailProvider]
    """The rules by domain; `*` is for all others."""
    placeholder_dates: frozenset[str]
    """Dates that systems store instead of an unknown date. They are ignored: sharing one is no agreement."""


FIELDS = ("name", "email", "phone", "company", "address", "city", "postcode", "country", "date_of_birth")
"""The fields of a record that `record` reads. Each is text or None, and may be missing."""

COLUMNS = (
    "given", "family", "root", "formal", "initials", "email", "mailbox", "phone", "company", "address", "city",
    "postcode", "country", "date_of_birth", "address_words",
)  # fmt: skip
"""The keys of what `record` returns. `mailbox`: see that function. `address_words`: the words of the address in
alphabetical order, the same for `Flat 3, 12 High Street` and `12 High Street, Flat 3`. All values are ASCII except
`email`, since changing its letters would change the mailbox."""

CONTENT = ("given", "family", "email", "phone", "company", "address", "city", "postcode", "country", "date_of_birth")
"""The columns that determine all others: records with the same values in them are exact duplicates."""


def record(fields: Mapping[str, Any], conventions: Conventions) -> dict[str, str | None]:
    """The normalised values of one record: a value or None for each of COLUMNS."""
    who = name(fields.get("name"))
    nation = country(fields.get("country"))
    region = nation if nation and len(nation) == 2 else conventions.region
    street = address(fields.get("address"))
    address_of_mail = email(fields.get("email"), conventions.providers)
    return {
        "given": who.given,
        "family": who.family,
        "root": who.root,
        "formal": who.formal,
        "initials": who.initials,
        "email": address_of_mail,
        "mailbox": mailbox(address_of_mail, who),
        "phone": phone(fields.get("phone"), region),
        "company": company(fields.get("company")),
        "address": street,
        "city": city(fields.get("city")),
        "postcode": postcode(fields.get("postcode"), region),
        "country": nation,
        "date_of_birth": date(fields.get("date_of_birth"), conventions.placeholder_dates),
        "address_words": street and " ".join(sorted(street.split())),
    }
