"""People as three CRMs know them: seeded, with the truth beside every record.

Persons live in households, share addresses, landlines and now and then an email; they move, marry, go by short names,
and are entered twice. Each system has ids of its own, its own gaps, and its own slips. Emails are of the domains that
RFC 2606 reserves; phone numbers have the exchange 555."""

import random
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate

import pyarrow as pa

FEMALE = [
    "Mary",
    "Patricia",
    "Jennifer",
    "Linda",
    "Elizabeth",
    "Barbara",
    "Susan",
    "Jessica",
    "Sarah",
    "Karen",
    "Lisa",
    "Nancy",
    "Sandra",
    "Betty",
    "Ashley",
    "Emily",
    "Kimberly",
    "Margaret",
    "Donna",
    "Michelle",
    "Carol",
    "Amanda",
    "Melissa",
    "Deborah",
    "Stephanie",
    "Rebecca",
    "Sharon",
    "Laura",
    "Cynthia",
    "Dorothy",
    "Amy",
    "Kathleen",
    "Angela",
    "Shirley",
    "Emma",
    "Brenda",
    "Pamela",
    "Nicole",
    "Anna",
    "Samantha",
    "Katherine",
    "Christine",
    "Debra",
    "Rachel",
    "Carolyn",
    "Janet",
    "Maria",
    "Olivia",
    "Heather",
    "Helen",
    "Catherine",
    "Diane",
    "Julie",
    "Victoria",
    "Joyce",
    "Lauren",
    "Kelly",
    "Christina",
    "Ruth",
    "Joan",
    "Virginia",
    "Judith",
    "Evelyn",
    "Hannah",
    "Andrea",
    "Megan",
    "Cheryl",
    "Jacqueline",
    "Madison",
    "Teresa",
    "Abigail",
    "Sophia",
    "Martha",
    "Sara",
    "Gloria",
    "Janice",
    "Kathryn",
    "Ann",
    "Isabella",
    "Judy",
    "Charlotte",
    "Julia",
    "Grace",
    "Amber",
    "Alice",
    "Jean",
    "Denise",
    "Frances",
    "Danielle",
    "Marilyn",
    "Natalie",
    "Beverly",
    "Diana",
    "Brittany",
    "Theresa",
    "Kayla",
    "Alexis",
    "Doris",
    "Lori",
    "Tiffany",
    "Ingrid",
    "Chloé",
    "Zoë",
    "Anaïs",
    "Fatima",
    "Aisha",
    "Mei",
    "Yuki",
    "Priya",
    "Ananya",
    "Łucja",
    "Søren",
    "Björk",
    "Nuria",
    "Beatriz",
]
MALE = [
    "James",
    "Robert",
    "John",
    "Michael",
    "David",
    "William",
    "Richard",
    "Joseph",
    "Thomas",
    "Christopher",
    "Charles",
    "Daniel",
    "Matthew",
    "Anthony",
    "Mark",
    "Donald",
    "Steven",
    "Andrew",
    "Paul",
    "Joshua",
    "Kenneth",
    "Kevin",
    "Brian",
    "Timothy",
    "Ronald",
    "George",
    "Jason",
    "Edward",
    "Jeffrey",
    "Ryan",
    "Jacob",
    "Nicholas",
    "Gary",
    "Eric",
    "Jonathan",
    "Stephen",
    "Larry",
    "Justin",
    "Scott",
    "Brandon",
    "Benjamin",
    "Samuel",
    "Gregory",
    "Alexander",
    "Patrick",
    "Frank",
    "Raymond",
    "Jack",
    "Dennis",
    "Jerry",
    "Tyler",
    "Aaron",
    "Jose",
    "Adam",
    "Nathan",
    "Henry",
    "Zachary",
    "Douglas",
    "Peter",
    "Kyle",
    "Noah",
    "Ethan",
    "Jeremy",
    "Christian",
    "Walter",
    "Keith",
    "Austin",
    "Roger",
    "Terry",
    "Sean",
    "Gerald",
    "Carl",
    "Dylan",
    "Harold",
    "Jordan",
    "Jesse",
    "Bryan",
    "Lawrence",
    "Arthur",
    "Gabriel",
    "Bruce",
    "Logan",
    "Billy",
    "Joe",
    "Alan",
    "Juan",
    "Elijah",
    "Willie",
    "Albert",
    "Wayne",
    "Randy",
    "Mason",
    "Vincent",
    "Liam",
    "Roy",
    "Bobby",
    "Caleb",
    "Bradley",
    "Russell",
    "Lucas",
    "José",
    "Ángel",
    "Jürgen",
    "Håkon",
    "Mohammed",
    "Omar",
    "Wei",
    "Hiroshi",
    "Arjun",
    "Rahul",
    "Piotr",
    "Mikhail",
    "François",
    "André",
    "Iñigo",
    "Çağlar",
]
FAMILY = [
    "Smith",
    "Johnson",
    "Williams",
    "Brown",
    "Jones",
    "Garcia",
    "Miller",
    "Davis",
    "Rodriguez",
    "Martinez",
    "Hernandez",
    "Lopez",
    "Gonzalez",
    "Wilson",
    "Anderson",
    "Thomas",
    "Taylor",
    "Moore",
    "Jackson",
    "Martin",
    "Lee",
    "Perez",
    "Thompson",
    "White",
    "Harris",
    "Sanchez",
    "Clark",
    "Ramirez",
    "Lewis",
    "Robinson",
    "Walker",
    "Young",
    "Allen",
    "King",
    "Wright",
    "Scott",
    "Torres",
    "Nguyen",
    "Hill",
    "Flores",
    "Green",
    "Adams",
    "Nelson",
    "Baker",
    "Hall",
    "Rivera",
    "Campbell",
    "Mitchell",
    "Carter",
    "Roberts",
    "Gomez",
    "Phillips",
    "Evans",
    "Turner",
    "Diaz",
    "Parker",
    "Cruz",
    "Edwards",
    "Collins",
    "Reyes",
    "Stewart",
    "Morris",
    "Morales",
    "Murphy",
    "Cook",
    "Rogers",
    "Gutierrez",
    "Ortiz",
    "Morgan",
    "Cooper",
    "Peterson",
    "Bailey",
    "Reed",
    "Kelly",
    "Howard",
    "Ramos",
    "Kim",
    "Cox",
    "Ward",
    "Richardson",
    "Watson",
    "Brooks",
    "Chavez",
    "Wood",
    "James",
    "Bennett",
    "Gray",
    "Mendoza",
    "Ruiz",
    "Hughes",
    "Price",
    "Alvarez",
    "Castillo",
    "Sanders",
    "Patel",
    "Myers",
    "Long",
    "Ross",
    "Foster",
    "Jimenez",
    "O'Brien",
    "O'Connor",
    "McDonald",
    "MacLeod",
    "Müller",
    "Schröder",
    "Lindström",
    "Nuñez",
    "Kovač",
    "Øster",
    "Łukasik",
    "d'Angelo",
]
_STEMS = [
    "Ash",
    "Beck",
    "Brad",
    "Bram",
    "Brook",
    "Burn",
    "Calder",
    "Cald",
    "Carl",
    "Clay",
    "Cole",
    "Cram",
    "Dal",
    "Den",
    "Dray",
    "East",
    "Eller",
    "Fair",
    "Fen",
    "Gil",
    "Glen",
    "Gold",
    "Grim",
    "Had",
    "Hal",
    "Hart",
    "Hazel",
    "Hol",
    "Horn",
    "Ken",
    "Kirk",
    "Lang",
    "Lin",
    "Lock",
    "Mar",
    "Mid",
    "New",
    "Nor",
    "Oak",
    "Or",
    "Pem",
    "Pin",
    "Ray",
    "Red",
    "Rock",
    "Row",
    "Sal",
    "Shel",
    "Stan",
    "Stock",
    "Sut",
    "Thorn",
    "Wal",
    "War",
    "West",
    "Whit",
    "Win",
    "Wolf",
    "Wood",
    "Yar",
]
_ENDS = [
    "berg",
    "bourne",
    "bridge",
    "brook",
    "burn",
    "by",
    "combe",
    "cott",
    "dale",
    "den",
    "field",
    "ford",
    "gate",
    "grove",
    "ham",
    "hurst",
    "land",
    "ley",
    "low",
    "man",
    "mere",
    "mond",
    "more",
    "ridge",
    "sen",
    "shaw",
    "son",
    "stad",
    "stein",
    "stone",
    "ton",
    "vale",
    "ville",
    "wall",
    "ward",
    "way",
    "well",
    "wick",
    "win",
    "wood",
    "worth",
]
_STREETS = [stem + end for stem in _STEMS for end in ("ton", "wood", "field", "ford", "dale", "more", "gate", "ley")]
_KINDS = (("Street", "St"), ("Avenue", "Ave"), ("Road", "Rd"), ("Lane", "Ln"), ("Drive", "Dr"), ("Court", "Ct"))
_TRADES = [
    "Logistics",
    "Foods",
    "Media",
    "Systems",
    "Dental",
    "Motors",
    "Partners",
    "Textiles",
    "Energy",
    "Optics",
    "Design",
    "Bank",
    "Travel",
    "Labs",
]
_FORMS = ("Inc", "LLC", "Ltd", "GmbH", "Corp.", "")
_MAIL = ("example.com", "example.org", "example.net", "mail.example.com", "post.example.org")
SHORT = {
    "william": "Bill Will Billy", "robert": "Bob Rob Bobby", "richard": "Rick Dick", "james": "Jim Jimmy",
    "john": "Jack Johnny", "michael": "Mike", "elizabeth": "Liz Beth Betty", "margaret": "Maggie Peggy Meg",
    "katherine": "Kate Kathy", "catherine": "Cathy Kate", "jennifer": "Jen Jenny", "patricia": "Pat Trish",
    "barbara": "Barb", "susan": "Sue", "deborah": "Deb Debbie", "thomas": "Tom", "joseph": "Joe", "daniel": "Dan Danny",
    "matthew": "Matt", "anthony": "Tony", "steven": "Steve", "andrew": "Andy Drew", "joshua": "Josh", "kenneth": "Ken",
    "timothy": "Tim", "edward": "Ed Ted", "jeffrey": "Jeff", "nicholas": "Nick", "benjamin": "Ben", "samuel": "Sam",
    "gregory": "Greg", "alexander": "Alex", "christopher": "Chris", "christina": "Chris Tina", "rebecca": "Becky",
    "samantha": "Sam", "victoria": "Vicky", "charles": "Charlie Chuck", "david": "Dave", "donald": "Don",
    "stephanie": "Steph", "amanda": "Mandy", "pamela": "Pam", "theresa": "Terry Tess", "abigail": "Abby",
}  # fmt: skip
SOURCES = ("salesforce", "hubspot", "internal")

FIELDS_OF = {
    "salesforce": {"phone": 0.8, "company": 0.85, "address": 0.55, "date_of_birth": 0.15},
    "hubspot": {"phone": 0.45, "company": 0.5, "address": 0.3, "date_of_birth": 0.1},
    "internal": {"phone": 0.75, "company": 0.2, "address": 0.92, "date_of_birth": 0.85},
}
"""How often each system knows a field; name and email always, as every record of ours has them."""

SCHEMA = pa.schema([
    ("id", pa.int64()), ("customer_id", pa.int64()), ("source", pa.string()), ("name", pa.string()),
    ("email", pa.string()), ("phone", pa.string()), ("company", pa.string()), ("address", pa.string()),
    ("city", pa.string()), ("postcode", pa.string()), ("country", pa.string()), ("date_of_birth", pa.string()),
    ("created_at", pa.string()), ("entity", pa.int64()),
])  # fmt: skip


class Weighted:
    """Picks from values of which the first are the most common, as names are (Zipf)."""

    def __init__(self, values: list[str], flat: float) -> None:
        self._values = values
        self._sums = list(accumulate(1 / (rank + flat) for rank in range(len(values))))

    def pick(self, random: random.Random) -> str:
        """One of the values."""
        return self._values[bisect(self._sums, random.random() * self._sums[-1])]


@dataclass
class Home:
    """A place, as someone would write it."""

    number: int
    street: str
    kind: int
    unit: int
    city: str
    postcode: str
    landline: str


@dataclass
class Person:
    """Someone, and all that a system may know of them."""

    given: str
    middle: str
    family: str
    born_family: str
    birth: date
    homes: list[Home]
    mobile: str
    emails: list[str]
    shared_email: str
    company: str


class World:
    """The people of one seed."""

    def __init__(self, seed: int, records: int) -> None:
        self.random = random.Random(seed)
        self._female, self._male = Weighted(FEMALE, 8), Weighted(MALE, 8)
        rare = [stem + end for stem in _STEMS for end in _ENDS]
        self.random.shuffle(rare)
        self._family = Weighted(FAMILY + rare, 25)
        self._companies = [
            f"{self.random.choice(rare)} {self.random.choice(_TRADES)}" for _ in range(max(20, records // 25))
        ]
        self._cities = [
            (stem + end, f"{place:05}") for place, (stem, end) in enumerate(
                ((s, e) for s in _STEMS for e in ("ville", "port", " City", "burg", " Falls")), 101)
        ]  # fmt: skip
        self._mailboxes: dict[str, int] = {}

    def records(self, count: int) -> pa.Table:
        """That many records, shuffled; ids from 1 on."""
        rows: list[dict[str, object]] = []
        entity = 0
        while len(rows) < count:
            for person in self._household():
                entity += 1
                rows.extend({**row, "entity": entity} for row in self._records_of(person))
        del rows[count:]
        self.random.shuffle(rows)
        next_id = dict(zip(SOURCES, (1001, 1001, 5001), strict=True))
        for place, row in enumerate(rows, 1):
            source = str(row["source"])
            row |= {"id": place, "customer_id": next_id[source]}
            next_id[source] += 1
        return pa.Table.from_pylist(rows, SCHEMA)

    # Who there is

    def _household(self) -> Iterator[Person]:
        pick, chance = self.random.choice, self.random.random
        home = self._home()
        family = self._family.pick(self.random)
        grown = date(1935, 1, 1) + timedelta(days=self.random.randrange(25_000))
        mailbox = self._mailbox(f"{family}.family" if chance() < 0.5 else f"the{family}s", pick(_MAIL))
        people = self.random.choices((1, 2, 3, 4), (40, 35, 15, 10))[0]
        called: set[str] = set()
        for place in range(people):
            female = chance() < 0.5
            born = self._family.pick(self.random)
            own = family if place == 0 or chance() < 0.85 else born
            older = place < 2
            birth = grown + timedelta(
                days=self.random.randrange(-2500, 2500) if older else self.random.randrange(7500, 12_000)
            )
            given = (self._female if female else self._male).pick(self.random)
            while given in called and chance() > 0.05:
                given = (self._female if female else self._male).pick(self.random)
            called.add(given)
            company = pick(self._companies) if chance() < 0.7 else ""
            homes = [home, *(self._home() for _ in range(self.random.choices((0, 1, 2), (75, 20, 5))[0]))]
            yield Person(
                given=given,
                middle=(self._female if female else self._male).pick(self.random) if chance() < 0.4 else "",
                family=own,
                born_family=born if female and older and chance() < 0.25 else own,
                birth=min(birth, date(2006, 12, 31)),
                homes=homes,
                mobile=self._phone(),
                emails=self._emails(given, own, birth, company),
                shared_email=mailbox,
                company=company,
            )

    def _home(self) -> Home:
        city, zone = self.random.choice(self._cities)
        street = self.random.choice(_STREETS)
        kind = self.random.randrange(len(_KINDS))
        unit = self.random.randrange(1, 60) if self.random.random() < 0.25 else 0
        # Buildings with many homes: their people share an address, and no more.
        number = self.random.randrange(1, 400) if not unit else self.random.randrange(1, 40) * 10
        area = sum(map(ord, street)) % 90
        return Home(number, street, kind, unit, city, f"{int(zone) * 100 + area:05}"[-5:], self._phone())

    def _phone(self) -> str:
        return f"{self.random.randrange(201, 990)}555{self.random.randrange(10_000):04}"

    def _emails(self, given: str, family: str, birth: date, company: str) -> list[str]:
        first, last = _plain(given), _plain(family)
        forms = (
            f"{first}.{last}",
            f"{first[0]}{last}",
            f"{first}{last}",
            f"{first}_{last}",
            f"{first}{birth.year % 100:02}",
        )
        mine = self._mailbox(self.random.choice(forms), self.random.choice(_MAIL))
        if not company:
            return [mine]
        domain = f"{_plain(company)}.example.com"
        return [mine, self._mailbox(self.random.choice(forms[:2]), domain)]

    def _mailbox(self, local: str, domain: str) -> str:
        local = _plain(local)
        taken = self._mailboxes.get(f"{local}@{domain}", 0)
        self._mailboxes[f"{local}@{domain}"] = taken + 1
        return f"{local}{taken if taken else ''}@{domain}"

    # What systems know of them

    def _records_of(self, person: Person) -> Iterator[dict[str, object]]:
        times = self.random.choices((1, 2, 3, 4, 5, 6), (40, 27, 18, 9, 4, 2))[0]
        # Mostly one record in each system, now and then a second one under another id.
        sources = self.random.sample(SOURCES, min(times, 3)) + self.random.choices(SOURCES, k=max(0, times - 3))
        for source in sources:
            yield self._record(person, source)

    def _record(self, person: Person, source: str) -> dict[str, object]:
        chance = self.random.random
        knows = FIELDS_OF[source]
        home = person.homes[0] if chance() < 0.8 else self.random.choice(person.homes)
        row: dict[str, object] = dict.fromkeys(SCHEMA.names)
        row |= {
            "source": source,
            "name": self._name(person, source),
            "country": self.random.choice(("US", "USA", None)),
        }
        row["created_at"] = f"{self.random.randrange(2015, 2026)}-{self.random.randrange(1, 13):02}-01T00:00:00Z"
        row["email"] = self._email(person, source)
        if chance() < knows["phone"]:
            row["phone"] = self._phone_as_typed(person.mobile if chance() < 0.75 else home.landline)
        if person.company and chance() < knows["company"]:
            form = self.random.choice(_FORMS)
            row["company"] = self._slip(f"{person.company} {form}".strip(), 0.03)
        if chance() < knows["address"]:
            row |= self._address(home)
        if chance() < knows["date_of_birth"]:
            row["date_of_birth"] = self._birth(person.birth)
        return row

    def _name(self, person: Person, source: str) -> str:
        chance = self.random.random
        given, family = person.given, person.family if chance() < 0.7 else person.born_family
        short = SHORT.get(given.lower())
        if short and chance() < 0.3:
            given = self.random.choice(short.split())
        elif chance() < 0.02:
            given = f"{given[0]}."
        given, family = self._slip(given, 0.04), self._slip(family, 0.05)
        middle = (person.middle and chance() < 0.3 and f"{person.middle[0]}.") or ""
        if source == "internal" and chance() < 0.6:
            return f"{family}, {' '.join(filter(None, (given, middle)))}"
        if chance() < 0.01:
            given, family = family, given
        full = " ".join(filter(None, (given, middle, family)))
        return full.upper() if chance() < 0.05 else full.lower() if chance() < 0.05 else full

    def _email(self, person: Person, source: str) -> str:
        chance = self.random.random
        if chance() < 0.03:
            return person.shared_email
        if person.company and source == "salesforce" and chance() < 0.02:
            return f"info@{_plain(person.company)}.example.com"
        work = len(person.emails) > 1 and chance() < {"salesforce": 0.45, "hubspot": 0.2, "internal": 0.08}[source]
        email = person.emails[1 if work else 0]
        local, _, domain = email.partition("@")
        if chance() < 0.03:
            local += f"+{source}"
        return self._slip(local, 0.02) + "@" + (domain.upper() if chance() < 0.02 else domain)

    def _phone_as_typed(self, number: str) -> str:
        number = self._slip(number, 0.02, "0123456789")
        area, exchange, line = number[:3], number[3:6], number[6:]
        return self.random.choice((
            f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"+1{number}", f"+1 {area} {exchange} {line}",
            f"{area}.{exchange}.{line}", number,
        ))  # fmt: skip

    def _address(self, home: Home) -> dict[str, object]:
        chance = self.random.random
        street = f"{home.number} {home.street} {_KINDS[home.kind][chance() < 0.4]}"
        if home.unit and chance() < 0.85:
            street += self.random.choice((f" Apt {home.unit}", f", Unit {home.unit}", f" #{home.unit}"))
        return {
            "address": self._slip(street, 0.06),
            "city": self._slip(home.city, 0.03) if chance() < 0.95 else None,
            "postcode": self._slip(home.postcode, 0.02, "0123456789") if chance() < 0.93 else None,
        }

    def _birth(self, birth: date) -> str | None:
        chance = self.random.random()
        if chance < 0.01:
            return "1900-01-01"
        if chance < 0.02 and birth.day <= 12:
            return f"{birth.year}-{birth.day:02}-{birth.month:02}"
        if chance < 0.04:
            digits = birth.isoformat()
            place = self.random.choice((2, 3, 6, 9))
            return digits[:place] + str(self.random.randrange(10)) + digits[place + 1 :]
        return birth.isoformat()

    def _slip(self, text: str, chance: float, letters: str = "abcdefghijklmnopqrstuvwxyz") -> str:
        """The text, or with this chance with one letter more, less, other, or two of them swapped."""
        if self.random.random() >= chance or len(text) < 3:
            return text
        place = self.random.randrange(1, len(text) - 1)
        slips: tuple[Callable[[], str], ...] = (
            lambda: text[:place] + text[place + 1 :],
            lambda: text[:place] + self.random.choice(letters) + text[place:],
            lambda: text[:place] + self.random.choice(letters) + text[place + 1 :],
            lambda: text[:place] + text[place + 1] + text[place] + text[place + 2 :],
        )
        return self.random.choice(slips)()


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.lower().translate(str.maketrans("øłı", "oli")))
    return "".join(letter for letter in letters if letter.isascii() and (letter.isalnum() or letter in "._"))


def people(records: int, seed: int) -> pa.Table:
    """So many records of made-up people, the same for the same seed; `entity` says whose each is."""
    return World(seed, records).records(records)
