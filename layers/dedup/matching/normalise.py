"""What is compared in place of what was sent: the same name, address or number in one spelling.

Pure: text in, text or None out, and what a caller has is never changed. None means that nothing is left to compare.
Every function may be given its own answer and returns it unchanged. What needs more than the standard library imports
it when the first such value comes: `phone` phonenumbers, `fold` anyascii for letters that are not ASCII.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import dropwhile
from types import MappingProxyType
from typing import Any, NamedTuple

_CACHED = 1 << 17
"""Distinct values that are remembered per function: names, cities and companies come again and again."""

LONGEST = 255
"""Letters that are kept of what has others than ASCII's, which can be spelled with eighteen each: as many as a field
may have."""

_ALONE = re.compile(r"(?<!\w)[ぁ-ゖァ-ヺ㐀-鿿가-힣](?!\w)")
_APOSTROPHES = re.compile(r"['`]")
_NO_WORD = re.compile(r"[\W_]+")
_NO_ALPHANUMERIC = re.compile(r"[^0-9A-Z]+")


@lru_cache(_CACHED)
def fold(text: str) -> str:
    """The text in ASCII, without case, accents, compatibility forms and runs of white space: `Ｚoë  MÜLLER` → `zoe
    muller`, `Юлия` → `yuliya`. There all engines count letters alike, and one name in two alphabets is one."""
    return " ".join((text if text.isascii() else _in_ascii(text)).lower().split())


def _in_ascii(text: str) -> str:
    from anyascii import anyascii

    composed = unicodedata.normalize("NFKC", text)
    # Of symbols it would say what they show: "grinning" is nobody's family name.
    letters = (
        " " if not letter.isascii() and unicodedata.category(letter)[0] == "S" else letter
        for letter in composed
        if not unicodedata.combining(letter)
    )
    # A syllable or an ideograph that is a word is no initial, also where it is spelled with one letter: 이 → ih.
    spelled = _ALONE.sub(lambda found: anyascii(found[0]).ljust(2, "h"), "".join(letters))
    return anyascii(spelled)[:LONGEST]


def _words(text: str) -> list[str]:
    return _NO_WORD.sub(" ", _APOSTROPHES.sub("", fold(text))).split()


# Names

_TITLES = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "miss",
        "mx",
        "dr",
        "prof",
        "sir",
        "rev",
        "herr",
        "frau",
        "monsieur",
        "madame",
        "mme",
        "mlle",
        "senor",
        "senora",
    ]
)
_TITLES_BEFORE = _TITLES | {"dame", "lord", "lady", "hon", "sig", "ing"}
"""Some are family names too: they are titles only where they come first."""
_SUFFIXES = frozenset(
    ["jr", "sr", "ii", "iii", "iv", "phd", "md", "esq", "mba", "obe", "cbe", "mbe", "dds", "cpa", "dphil", "msc", "bsc"]
)
_PARTICLES = frozenset(
    [
        "van",
        "von",
        "de",
        "der",
        "den",
        "del",
        "della",
        "di",
        "da",
        "dos",
        "das",
        "du",
        "la",
        "las",
        "los",
        "le",
        "el",
        "bin",
        "ibn",
        "ter",
        "ten",
        "zu",
        "zum",
        "zur",
        "af",
        "av",
        "st",
    ]
)

_GIVEN_WITH_PARTICLES = frozenset(
    [
        "carmen",
        "pilar",
        "rosario",
        "mar",
        "luz",
        "angeles",
        "dolores",
        "consuelo",
        "socorro",
        "rocio",
        "jesus",
        "refugio",
        "rosa",
        "cruz",
        "nieves",
        "mercedes",
    ]
)
"""Second parts of Spanish given names: `Maria del Pilar`."""

# One line for each class of given names that one person may go by; the first stands for it. Everyday English short
# forms, and spellings of one name. Where a short form is as usual for several names (chris, pat, sam), these share a
# class, each with its own after a semicolon: patrick and patricia are two people's, and pat is either's. All others
# are apart, however alike (michael, michelle).
_NICKNAMES = """
abigail abby abbie gail
albert al bert bertie alberto
alexander alex alec sandy sasha alejandro; alexandra alexandria alex sandy sasha lexi
alfred alf alfie fred freddie freddy; frederick frederic fred freddie freddy
alice ali ally allie; alicia ali ally allie
alison allison
amanda mandy
andrew andreas andre andy drew; andrea andy drew
angela angelina angie
ann anna anne annie nan; hannah annie; anita annie; annette annie
anthony tony antonio anton
antonia toni; antoinette toni
arthur art artie
barbara barb barbie babs
benjamin ben benny bennie benji benedict
bernard bernie
bradley brad; bradford brad
brian bryan
caroline carolyn carol carrie
catherine kathryn katherine katharine katarina kate katie kathy cathy cath kat kitty; kathleen cathleen kathy cathy kat
charles charlie chuck chas carlos
charlotte lottie
christopher chris kris; christian chris kris; christine christina kristen kristin kristina tina chrissy christy chris
cynthia cindy
daniel dan danny
danielle dani
david dave davey
deborah debbie deb debra
dennis denny denis
diana diane di
donald don donny
dorothy dot dottie dolly
douglas doug
edward eduardo ed eddie ted teddy ned; edwin ed eddie; edmund ed eddie ned
eleanor ellie nell nelly; ellen ellie nell nelly; ella ellie
elizabeth liz lizzie beth betty betsy eliza lisa elisabeth libby bess bessie elsie elise
emily em millie; emma em
eric erik
erica erika
eugene gene
evelyn eve evie
florence flo; flora flo
frances fran frankie; francis frank frankie fran; francesca fran frankie; franklin frank frankie
gabriel gabe
gabrielle gabby
geoffrey geoff jeff jeffrey jeffery
george georgie
gerald gerry jerry; gerard gerry jerry
gregory greg gregg
harold harry hal; henry harry hal hank
harriet hattie
helen helena nellie
isabel isabella bella belle isabelle izzy
jacob jake
james jim jimmy jamie jem
jean jeanne
jennifer jenny jen; jenna jenny jen
jessica jess jessie
joan jo; joanna joanne johanna jo
john jack johnny johnnie jon; jonathan jonathon jon johnny
joseph joe joey jose
josephine josie
joshua josh
judith judy jude
julia julie jules; juliet jules; julian jules
kenneth ken kenny
kimberly kim kimberley
laura laurie; lauren laurie
lawrence larry laurence loren lorenzo
leonard len lenny leo; leon leo; leonardo leo
lillian lily lilian lilly
linda lindy lin; lynn lynne lin
louis lou lewis luis
louise louisa
lucy; lucille lucy; lucia lucy; lucinda lucy
margaret margarita maggie meg peggy madge greta marge margie; marjorie marge margie
maria mia
mark marc; marcus marc mark; marco marcos marc
martin marty
martina
martha
mary molly polly mae may
matthew matt matty; matthias matt
maxwell max; maximilian max; maxine max
megan meghan
melissa missy mel; melanie mel
michael mike mick mickey mikey micky miguel mikhail michel
michelle shelly
natalie natalia nat; natasha nat
nathaniel nathan nate
nicholas nick nico nicolas nikolai nicky; nicole nikki nicky; nicola nikki nicky
oliver ollie
olivia liv
pamela pam
patrick paddy pat; patricia patty patsy trish tricia pat
paul pablo
paula pauline
peter pete pedro
philip phil phillip pip; philippa pip
rachel rachael rae
raymond ray
rebecca becky becca bec
richard rick ricky dick rich richie ricardo
robert bob bobby roberto rob robbie bert; robin rob robbie
roberta
ronald ron ronnie ronny
rosemary rose rosie; rosalind rose rosie; rosa rosie
russell russ
samuel sam sammy; samantha sam sammy
sarah sara sally sadie
sharon shaz
sophia sophie sofia
stephen steve steven stevie stefan esteban stephan
stephanie steph
stuart stewart stu
susan sue susie suzanne susanna suzy suzie
sylvia sylvie
teresa theresa tess tessa terry; terence terrence terry
theodore theo
thomas tom tommy tomas
timothy tim timmy
tobias toby
valerie val
vanessa nessa
veronica ronni
victor vic; victoria vicky tori vicki vic
vincent vince vinnie vincenzo
virginia ginny ginger
walter walt wally
wilfred wilf
william bill billy will willie liam willy wilhelm
zachary zach zack zac
"""


@cache
def _classes() -> Mapping[str, tuple[str, str | None]]:
    """For each name of the classes the one that stands for its class, and the one that it is short for; None where it
    is for several."""
    known: dict[str, tuple[str, str | None]] = {}
    for line in _NICKNAMES.strip().splitlines():
        parts = [part.split() for part in line.split(";")]
        of_line: dict[str, tuple[str, str | None]] = {}
        for full, *short in parts:
            for given in (full, *short):
                of_line[given] = (parts[0][0], None if given in of_line else full)
        known = of_line | known
    return MappingProxyType(known)


@cache
def _names_of() -> Mapping[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for given, (stem, _) in _classes().items():
        names[stem] = (*names.get(stem, ()), given)
    return MappingProxyType(names)


def root(given: str) -> str:
    """What stands for all the names that someone called `given` may go by: `bill` and `william` → `william`, `pat`,
    `patrick` and `patricia` → `patrick`."""
    return _classes().get(given, (given, None))[0]


def formal(given: str) -> str | None:
    """The full name that a given name is or is short for: `bill` and `william` → `william`, `trish` → `patricia`. None
    where that can't be said: for `pat`, who is a Patrick or a Patricia, and for names that are in no class."""
    return _classes().get(given, (given, None))[1]


class PersonName(NamedTuple):
    """A name in parts, each one word without spaces, hyphens or accents; None where the part was not given."""

    given: str | None
    family: str | None
    root: str | None
    """See the function `root`."""
    formal: str | None
    """See the function `formal`. People of different ones are two."""

    @property
    def initials(self) -> str | None:
        """The first letters of both parts in alphabetical order: the same where the parts changed places."""
        return "".join(sorted(part[0] for part in (self.root, self.family) if part)) or None


@lru_cache(_CACHED)
def name(text: str | None) -> PersonName:
    """The parts of a full name, as `Given Middle Family` or `Family, Given Middle`; titles and suffixes left out.

    `Dr. José Ángel van den Berg Jr.` and `Van den Berg, José` → given jose, family vandenberg. A single word is a given
    name, and with a comma after it a family name."""
    before, comma, after = (text or "").partition(",")
    first, last = _name_words(before), _name_words(after)
    if comma and not (last and _SUFFIXES.issuperset(last)):
        given, family = last[:1], first
    else:
        place = _family_begins(first)
        given = first[:1]
        family = first[place:] if place else first[1:][-1:]
    called, surname = "".join(given) or None, "".join(family) or None
    return PersonName(called, surname, root(called) if called else None, formal(called) if called else None)


def _family_begins(words: Sequence[str]) -> int | None:
    """Where the particles of a family name begin, of two words or more: those of `van den berg`, and not those of a
    given name, as in `maria del carmen garcia`."""
    n = 1
    while n < len(words) - 1:
        after = next((m for m in range(n, len(words) - 1) if words[m] not in _PARTICLES), len(words) - 1)
        if after > n and (after == len(words) - 1 or words[after] not in _GIVEN_WITH_PARTICLES):
            return n
        n = after + 1
    return None


def _name_words(text: str) -> list[str]:
    words = [w for part in fold(text).replace(".", " ").split() if (w := "".join(_words(part)))]
    untitled = dropwhile(_TITLES_BEFORE.__contains__, words)
    return [word for word in untitled if word not in _TITLES and word not in _SUFFIXES] or words


# Contacts


@dataclass(frozen=True)
class MailProvider:
    """How one provider of mailboxes reads the part before the @: what it ignores there."""

    domain: str | None = None
    """The domain that all of the provider's are written as; None leaves it as it came."""
    dots: bool = True
    """False where j.doe and jdoe are one mailbox."""
    tag: str | None = None
    """What begins a tag that is not part of the mailbox: the `+` of jdoe+news."""


def email(text: str | None, providers: Mapping[str, MailProvider]) -> str | None:
    """The mailbox that an address leads to: `J.Doe+news@GoogleMail.com` → `jdoe@gmail.com`. None without an @.

    `providers`: the rules by domain; `*` is for all others. A provider's own domain must have the same rule as its
    others."""
    folded = "".join(unicodedata.normalize("NFKC", text or "").casefold().split())
    # Again: what was apart, or in another case, may compose.
    local, at, domain = unicodedata.normalize("NFKC", folded).rpartition("@")
    domain = domain.strip(".")
    if not (at and local and domain):
        return None
    provider = providers.get(domain) or providers.get("*") or MailProvider()
    if provider.tag:
        local = local.partition(provider.tag)[0] or local
    if not provider.dots:
        local = local.replace(".", "") or local
    return f"{local}@{provider.domain or domain}"


def mailbox(address: str | None, who: PersonName) -> str | None:
    """The part before the @ of an address as `email` returns it, where it says more than the name does: of `jd.miles82`
    all of it, of `jane.doe`, `jdoe` or `janet.doe2` nothing, if Jane Doe has it. Two Jane Does have such addresses too,
    and a single digit tells one from another at one provider, not who has it at the next."""
    local = fold((address or "").rpartition("@")[0])
    rest = _NO_WORD.sub("", local)
    names = {who.family, who.given, *_names_of().get(who.root or "", ())}
    for part in sorted(filter(None, names), key=lambda part: (-len(part), part)):
        rest = rest.replace(part, "", 1)
    return local if len(rest) > 2 or (len(rest) == 2 and rest.isdigit()) else None


_DIGITS = re.compile(r"[ ().-]+")
_NANP = re.compile(r"(?:\+?1)?([2-9]\d{9})")


def phone(text: str | None, region: str) -> str | None:
    """The number in E.164 (`+12025550123`), its extension left out; None where it could be nobody's number.

    `region`: ISO 3166's two letters of the country that a number without a country code is read in."""
    if not text:
        return None
    digits = _DIGITS.sub("", text)
    # Most numbers of North America, which phonenumbers would read the same, fifty times slower.
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

_COUNTRIES = MappingProxyType({
    "usa": "US", "united states": "US", "united states of america": "US", "america": "US",
    "uk": "GB", "united kingdom": "GB", "great britain": "GB", "england": "GB", "scotland": "GB", "wales": "GB",
    "germany": "DE", "deutschland": "DE", "france": "FR", "spain": "ES", "espana": "ES", "italy": "IT", "italia": "IT",
    "netherlands": "NL", "the netherlands": "NL", "nederland": "NL", "belgium": "BE", "austria": "AT",
    "osterreich": "AT", "switzerland": "CH", "schweiz": "CH", "suisse": "CH", "sweden": "SE", "sverige": "SE",
    "norway": "NO", "norge": "NO", "denmark": "DK", "danmark": "DK", "finland": "FI", "poland": "PL", "polska": "PL",
    "portugal": "PT", "ireland": "IE", "canada": "CA", "mexico": "MX", "brazil": "BR", "brasil": "BR",
    "australia": "AU", "new zealand": "NZ", "japan": "JP", "china": "CN", "india": "IN", "south africa": "ZA",
})  # fmt: skip
"""Names under which CRMs export a country, beside ISO 3166's two letters."""

_ADDRESS_WORDS = MappingProxyType({
    "street": "st", "str": "st", "strasse": "st", "avenue": "ave", "av": "ave", "road": "rd", "drive": "dr",
    "lane": "ln", "court": "ct", "crt": "ct", "place": "pl", "boulevard": "blvd", "square": "sq", "terrace": "ter",
    "tce": "ter", "crescent": "cres", "circuit": "cct", "close": "cl", "parade": "pde", "highway": "hwy",
    "parkway": "pkwy", "apartment": "apt", "unit": "apt", "flat": "apt", "suite": "ste", "floor": "fl",
    "north": "n", "south": "s", "east": "e", "west": "w", "saint": "st", "mount": "mt",
    "postfach": "po box", "pob": "po box",
})  # fmt: skip
"""Words of an address in the short form of USPS Publication 28, and a few of other countries."""


@lru_cache(_CACHED)
def country(text: str | None) -> str | None:
    """ISO 3166's two letters where the text is them or a known name; otherwise the text folded."""
    folded = " ".join(_words(text or ""))
    if known := _COUNTRIES.get(folded):
        return known
    return folded.upper() if len(folded) == 2 and folded.isalpha() else folded or None


def postcode(text: str | None, country_code: str | None = None) -> str | None:
    """Letters and digits alone, in capitals; of a ZIP+4 the first five digits.

    In the United States a short number gets back the zeros that a spreadsheet took from it."""
    raw = fold(text or "").upper()
    if re.fullmatch(r"\d{5}-\d{4}", raw):
        raw = raw[:5]
    code = _NO_ALPHANUMERIC.sub("", raw)
    if country_code == "US" and code.isdigit():
        code = code.zfill(5)[:5]
    return code or None


@lru_cache(_CACHED)
def address(text: str | None) -> str | None:
    """A street address folded, its common words in their short form: `12 Saint John's Street` → `12 st johns st`."""
    return " ".join(_ADDRESS_WORDS.get(word, word) for word in _words(text or "")) or None


@lru_cache(_CACHED)
def city(text: str | None) -> str | None:
    """A place's name folded, `saint` and `mount` in their short form."""
    return " ".join({"saint": "st", "mount": "mt"}.get(word, word) for word in _words(text or "")) or None


# Companies and dates

_LEGAL_FORMS = frozenset(
    [
        "inc",
        "incorporated",
        "corp",
        "corporation",
        "co",
        "company",
        "ltd",
        "limited",
        "llc",
        "llp",
        "lp",
        "plc",
        "pty",
        "gmbh",
        "ag",
        "kg",
        "ug",
        "ohg",
        "mbh",
        "sa",
        "sas",
        "sarl",
        "sarlu",
        "srl",
        "spa",
        "bv",
        "nv",
        "ab",
        "as",
        "asa",
        "oy",
        "oyj",
        "aps",
        "kk",
        "sl",
        "holding",
        "holdings",
        "group",
    ]
)


@lru_cache(_CACHED)
def company(text: str | None) -> str | None:
    """A company's name folded, without its legal form and a leading `the`: `The Müller & Co. KG` → `muller`."""
    words = [word for word in _words((text or "").replace("&", " and ")) if word]
    if words[:1] == ["the"]:
        words = words[1:] or words
    while len(words) > 1 and words[-1] in _LEGAL_FORMS | {"and"}:
        words.pop()
    return " ".join(words) or None


_DATES = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:[T ].*)?"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
)


def date(text: str | None, placeholders: frozenset[str]) -> str | None:
    """A date as `YYYY-MM-DD`, from that, `YYYYMMDD`, or `DD.MM.YYYY`; None for other forms: 03/04 is two dates.

    A day that no calendar has is kept: it is a slip of the right one, and near it. One of zeros is none."""
    raw = (text or "").strip()
    found = next((match for form in _DATES if raw.isascii() and (match := form.fullmatch(raw))), None)
    if not found:
        return None
    iso = f"{found['y']}-{int(found['m']):02}-{int(found['d']):02}"
    return None if iso in placeholders or "00" in (iso[5:7], iso[8:]) else iso


@dataclass(frozen=True)
class Conventions:
    """What normalising has to be told: it can't be seen from a value."""

    region: str
    """The country of records that name none: it reads their phone numbers and postcodes."""
    providers: Mapping[str, MailProvider]
    """The rules by domain; `*` is for all others."""
    placeholder_dates: frozenset[str]
    """What systems store when they know no date: two records that have one agree on nothing."""


FIELDS = ("name", "email", "phone", "company", "address", "city", "postcode", "country", "date_of_birth")
"""The fields of a record that `record` reads. Each is text or None, and may be missing."""

COLUMNS = (
    "given", "family", "root", "formal", "initials", "email", "mailbox", "phone", "company", "address", "city",
    "postcode", "country", "date_of_birth", "address_words",
)  # fmt: skip
"""The keys of what `record` returns. `mailbox`: see that function. `address_words`: the address in alphabetical order,
the same where `Flat 3, 12 High Street` became `12 High Street, Flat 3`. All are ASCII but `email`, whose letters say
which mailbox it is."""


SAID = ("given", "family", "email", "phone", "company", "address", "city", "postcode", "country", "date_of_birth")
"""Of COLUMNS those that the others follow from: records that have them in common say the same."""


def record(fields: Mapping[str, Any], conventions: Conventions) -> dict[str, str | None]:
    """The comparable form of one record: a value or None for each of COLUMNS."""
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
