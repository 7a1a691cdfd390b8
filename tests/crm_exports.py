"""Writes exports in the exact layouts of CRMs, shops and address books: their column names, quotes, encodings, forms of
ids, lines below the table, texts with line breaks, and empty cells.

python -m tests.crm_exports salesforce_report 1000 > report.csv
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[["Contact"], object]


@dataclass(frozen=True)
class Contact:
    """A made-up contact. Its email is empty if the system does not know one, and is not always a valid address."""

    number: int
    first_name: str
    last_name: str
    email: str
    phone: str
    mobile: str
    company: str
    street: str
    city: str
    state: str
    postcode: str
    country: str
    birthday: str

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


def contacts(count: int, seed: int = 0) -> list[Contact]:
    """`count` different contacts; the same for the same seed. Nearly one in five has no email."""
    chance = random.Random(seed)
    made = []
    for number in chance.sample(range(100_000, max(1_000_000, 100_000 + 10 * count)), count):
        local = f"person.{number}"
        made.append(
            Contact(
                number,
                chance.choice(("Ann", "Zoë", "José", "Jürgen", "Niño", "Bob", "")),
                chance.choice(("O'Brien", "Müller, PhD", 'Smith "Smitty"', "Núñez", "de la Cruz", "Lee\tPark")),
                chance.choices(("", f"{local}@example.com", f"{local}@example", "n/a"), (18, 78, 2, 2))[0],
                chance.choice(("", f"+1 (415) 555-{chance.randrange(10_000):04}")),
                chance.choice(("", f"+44 7700 900{chance.randrange(1_000):03}")),
                chance.choice(("", "Acme, Inc.", "Müller & Söhne GmbH", 'The "Best" Shop')),
                chance.choice(("", "1 Main St", "12 High Street\nFloor 3\r\nRear building", "Königsallee 7")),
                chance.choice(("", "Springfield", "Köln")),
                chance.choice(("", "IL", "NRW")),
                chance.choice(("", "02134", "50667", "SW1A 1AA")),
                chance.choice(("", "United States", "Germany", "GB")),
                chance.choice(("", "1984-03-21")),
            )
        )
    return made


_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def salesforce_id(number: int) -> str:
    """The id of a contact in 15 characters, as reports write it."""
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _LETTERS[digit] + digits
    return f"0035g00000{digits:0>5}"


def long_salesforce_id(number: int) -> str:
    """The id in 18 characters, as the API writes it: three letters say which of the others are capitals."""
    short = salesforce_id(number)
    parts = (short[begin : begin + 5] for begin in (0, 5, 10))
    return short + "".join(_CHECK_LETTERS[sum(c.isupper() << n for n, c in enumerate(part))] for part in parts)


def guid(number: int) -> str:
    return f"{number:08x}-7c1d-ee11-8179-000d3a{number % 0xFFFFFF:06x}"


@dataclass(frozen=True)
class Layout:
    """The layout of a system's export.

    `columns`: the cells, by column name. `id_column`: the column with the id in the system's form; None if the system
    exports no id. `fields`: what is to be read of a contact, beside id and name. `quoted`: which cells have quotes.
    `footer`: lines below the table."""

    columns: Mapping[str, Tell]
    fields: Mapping[str, Tell]
    id_column: str | None
    quoted: str = "needed"
    newline: str = "\r\n"
    encoding: str = "utf-8"
    footer: Sequence[str] = field(default=())


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _nothing(_: Contact) -> str:
    return ""


def _columns(*columns: str | tuple[str, Tell]) -> dict[str, Tell]:
    """Columns in order; those that are only named are empty."""
    return {one if isinstance(one, str) else one[0]: _nothing if isinstance(one, str) else one[1] for one in columns}


def _same(name: str) -> Callable[[Contact], str]:
    return lambda contact: str(getattr(contact, name))


def _first(*names: str) -> Callable[[Contact], str]:
    return lambda contact: next((value for name in names if (value := getattr(contact, name))), "")


def _phones(contact: Contact) -> object:
    both = [number for number in (contact.phone, contact.mobile) if number]
    return both if len(both) > 1 else []


PLACE = {
    "address": lambda contact: _one_line(contact.street),
    "city": _same("city"),
    "postcode": _same("postcode"),
    "country": _same("country"),
}
MODIFIED = {"modified_at": lambda _: "2026-11-27T08:00:00.000000Z"}
KNOWN: Mapping[str, Tell] = {
    "email": _same("email"),
    "phone": _first("phone", "mobile"),
    "phones": _phones,
    "company": _same("company"),
    **PLACE,
}

LAYOUTS: Mapping[str, Layout] = {
    "salesforce_report": Layout(
        _columns(
            "Salutation", ("First Name", _same("first_name")), ("Last Name", _same("last_name")), "Title",
            ("Account Name", _same("company")), ("Mailing Street", _same("street")), ("Mailing City", _same("city")),
            ("Mailing State/Province", _same("state")), ("Mailing Zip/Postal Code", _same("postcode")),
            ("Mailing Country", _same("country")), ("Phone", _same("phone")), "Fax", ("Mobile", _same("mobile")),
            ("Email", _same("email")), ("Account Owner", lambda _: "Jane Admin"), ("Birthdate", _same("birthday")),
            ("Last Modified Date", lambda _: "11/27/2026"),
            ("Contact ID", lambda contact: salesforce_id(contact.number)),
        ),
        {
            **KNOWN,
            "date_of_birth": _same("birthday"),
            "modified_at": lambda _: "2026-11-27T00:00:00.000000Z",
        },
        "Contact ID", "all", "\n", "iso-8859-1",
        (
            "", "", '"All Contacts"',
            '"Copyright (c) 2000-2026 salesforce.com, inc. All rights reserved."',
            '"Confidential Information - Do Not Distribute"',
            '"Generated By:  Jane Admin  11/28/2026 9:15 AM"',
            '"Example Ltd"',
        ),
    ),
    "salesforce_data_loader": Layout(
        _columns(
            ("ID", lambda contact: long_salesforce_id(contact.number)), ("ISDELETED", lambda _: "false"),
            "MASTERRECORDID", ("ACCOUNTID", lambda contact: f"001{long_salesforce_id(contact.number)[3:]}"),
            ("LASTNAME", _same("last_name")), ("FIRSTNAME", _same("first_name")), "SALUTATION", ("NAME", _same("name")),
            "OTHERSTREET", "OTHERCITY", "OTHERSTATE", "OTHERPOSTALCODE", "OTHERCOUNTRY",
            ("MAILINGSTREET", _same("street")), ("MAILINGCITY", _same("city")), ("MAILINGSTATE", _same("state")),
            ("MAILINGPOSTALCODE", _same("postcode")), ("MAILINGCOUNTRY", _same("country")), "MAILINGLATITUDE",
            "MAILINGLONGITUDE", ("PHONE", _same("phone")), "FAX", ("MOBILEPHONE", _same("mobile")), "HOMEPHONE",
            "OTHERPHONE", ("ASSISTANTPHONE", lambda _: "+1 (415) 555-9999"), "REPORTSTOID", ("EMAIL", _same("email")),
            "TITLE", "DEPARTMENT", ("ASSISTANTNAME", lambda _: "Ed"), "LEADSOURCE", ("BIRTHDATE", _same("birthday")),
            "DESCRIPTION", ("OWNERID", lambda _: "0055g000001abcdAAA"),
            ("LASTMODIFIEDDATE", lambda _: "2026-11-27T08:00:00.000Z"),
        ),
        {**KNOWN, "company": _nothing, "date_of_birth": _same("birthday"), **MODIFIED}, "ID", "all",
    ),
    "hubspot": Layout(
        _columns(
            ("Record ID", _same("number")), ("First Name", _same("first_name")), ("Last Name", _same("last_name")),
            ("Email", _same("email")), ("Phone Number", _same("phone")), ("Mobile Phone Number", _same("mobile")),
            ("Contact owner", lambda _: "Jane Admin (jane@example.com)"), "Lead Status", "Marketing contact status",
            ("Create Date", lambda _: "2026-11-27 08:00"), ("Street Address", _same("street")), ("City", _same("city")),
            ("State/Region", _same("state")), ("Postal Code", _same("postcode")), ("Country/Region", _same("country")),
            ("Company Name", _same("company")), ("Date of birth", _same("birthday")), "Lifecycle Stage",
            ("Email Domain", lambda contact: contact.email.partition("@")[2]), "Associated Company IDs",
            "Associated Company",
        ),
        {**KNOWN, "date_of_birth": _same("birthday")}, "Record ID", "all", "\n",
    ),
    "dynamics": Layout(
        _columns(
            ("(Do Not Modify) Contact", lambda contact: guid(contact.number)),
            ("(Do Not Modify) Row Checksum", lambda _: "kD0vQ2Yy8Jt1W0vP6nF3aA=="),
            ("(Do Not Modify) Modified On", lambda _: "11/27/2026 08:00"), ("Full Name", _same("name")),
            ("Email", _same("email")), ("Company Name", _same("company")), ("Business Phone", _same("phone")),
            ("Mobile Phone", _same("mobile")), ("Address 1: Street 1", _same("street")), "Address 1: Street 2",
            ("Address 1: City", _same("city")), ("Address 1: State/Province", _same("state")),
            ("Address 1: ZIP/Postal Code", _same("postcode")), ("Address 1: Country/Region", _same("country")),
            ("Birthday", _same("birthday")), ("Status", lambda _: "Active"),
        ),
        {**KNOWN, "date_of_birth": _same("birthday"), **MODIFIED}, "(Do Not Modify) Contact", encoding="utf-8-sig",
    ),
    "zoho": Layout(
        _columns(
            ("Record Id", lambda contact: f"zcrm_554023000000{contact.number}"),
            ("Contact Owner.id", lambda _: "zcrm_554023000000123001"), ("Contact Owner", lambda _: "Jane Admin"),
            "Lead Source", ("First Name", _same("first_name")), ("Last Name", _same("last_name")), "Account Name.id",
            ("Account Name", _same("company")), "Vendor Name.id", "Vendor Name", ("Email", _same("email")), "Title",
            "Department", ("Phone", _same("phone")), "Home Phone", "Other Phone", "Fax", ("Mobile", _same("mobile")),
            ("Date of Birth", _same("birthday")), "Assistant", "Asst Phone", ("Email Opt Out", lambda _: "false"),
            "Created By.id", "Created By", ("Created Time", lambda _: "2026-11-27 08:00:00"),
            ("Modified Time", lambda _: "2026-11-27 08:00:00"), ("Contact Name", _same("name")),
            ("Mailing Street", _same("street")), "Other Street", ("Mailing City", _same("city")), "Other City",
            ("Mailing State", _same("state")), "Other State", ("Mailing Zip", _same("postcode")), "Other Zip",
            ("Mailing Country", _same("country")), "Other Country", "Description", "Skype ID", "Secondary Email", "Tag",
        ),
        {**KNOWN, "date_of_birth": _same("birthday"), **MODIFIED}, "Record Id",
    ),
    "pipedrive": Layout(
        _columns(
            ("Person - Name", _same("name")), "Person - Label", ("Person - Organization", _same("company")),
            ("Person - Email - Work", _same("email")), "Person - Email - Home", "Person - Email - Other",
            ("Person - Phone - Work", _same("phone")), "Person - Phone - Home",
            ("Person - Phone - Mobile", _same("mobile")), "Person - Phone - Other",
            ("Person - Closed deals", lambda _: 0), ("Person - Open deals", lambda _: 1), "Person - Next activity date",
            ("Person - Owner", lambda _: "Jane Admin"), ("Person - ID", _same("number")),
            ("Person - First name", _same("first_name")), ("Person - Last name", _same("last_name")),
            ("Person - Postal address", _same("street")),
            ("Person - City/town/village/locality of Postal address", _same("city")),
            ("Person - ZIP/Postal code of Postal address", _same("postcode")),
            ("Person - Country of Postal address", _same("country")), ("Person - Birthday", _same("birthday")),
            ("Person - Update time", lambda _: "2026-11-27 08:00:00"),
        ),
        {**KNOWN, "date_of_birth": _same("birthday"), **MODIFIED}, "Person - ID", newline="\n",
    ),
    "shopify": Layout(
        _columns(
            ("Customer ID", lambda contact: f"'{contact.number}"), ("First Name", _same("first_name")),
            ("Last Name", _same("last_name")), ("Email", _same("email")), ("Accepts Email Marketing", lambda _: "yes"),
            ("Default Address Company", _same("company")), ("Default Address Address1", _same("street")),
            "Default Address Address2", ("Default Address City", _same("city")),
            ("Default Address Province Code", _same("state")), ("Default Address Country Code", _same("country")),
            ("Default Address Zip", lambda contact: contact.postcode and f"'{contact.postcode}"),
            ("Default Address Phone", lambda contact: contact.mobile and f"'{contact.mobile}"),
            ("Phone", lambda contact: contact.phone and f"'{contact.phone}"), ("Accepts SMS Marketing", lambda _: "no"),
            ("Total Spent", lambda _: "120.50"), ("Total Orders", lambda _: 3), "Note", ("Tax Exempt", lambda _: "no"),
            "Tags",
        ),
        KNOWN, "Customer ID", newline="\n",
    ),
    "stripe": Layout(
        _columns(
            ("id", lambda contact: f"cus_Q{contact.number}xYz"), "Description", ("Email", _same("email")),
            ("Name", _same("name")), ("Created (UTC)", lambda _: "2026-11-27 08:00:00"),
            ("Delinquent", lambda _: "false"), ("Card ID", lambda _: "card_1PqRsT"), ("Card Last4", lambda _: "4242"),
            ("Card Brand", lambda _: "Visa"), ("Card Funding", lambda _: "credit"), ("Card Exp Month", lambda _: 12),
            ("Card Exp Year", lambda _: 2030), ("Card Name", _same("name")), ("Card Address Line1", _same("street")),
            "Card Address Line2", ("Card Address City", _same("city")), ("Card Address State", _same("state")),
            ("Card Address Country", _same("country")), ("Card Address Zip", _same("postcode")),
            ("Card Issue Country", lambda _: "US"), ("Card Fingerprint", lambda _: "a1B2c3D4"), "Card CVC Status",
            "Card AVS Zip Status", "Card AVS Line1 Status", "Card Tokenization Method", "Plan", "Status",
            "Cancel At Period End", ("Account Balance", lambda _: "0.00"), ("Currency", lambda _: "usd"),
            "Total Spend", "Payment Count", "Business Vat ID",
        ),
        {"email": _same("email"), **PLACE}, "id", newline="\n",
    ),
    "mailchimp": Layout(
        _columns(
            ("Email Address", _same("email")), ("First Name", _same("first_name")), ("Last Name", _same("last_name")),
            ("Address", _same("street")), ("Phone Number", _same("phone")),
            ("Birthday", lambda contact: contact.birthday and "03/21"), ("MEMBER_RATING", lambda _: 2),
            ("OPTIN_TIME", lambda _: "2026-11-27 08:00:00"), "OPTIN_IP",
            ("CONFIRM_TIME", lambda _: "2026-11-27 08:00:00"), ("CONFIRM_IP", lambda _: "192.0.2.1"), "LATITUDE",
            "LONGITUDE", "GMTOFF", "DSTOFF", "TIMEZONE", ("CC", lambda _: "US"), "REGION",
            ("LAST_CHANGED", lambda _: "2026-11-27 08:00:00"), ("LEID", _same("number")),
            ("EUID", lambda contact: f"{contact.number:010x}"), "NOTES", "TAGS",
        ),
        {
            "email": _same("email"), "phone": _same("phone"), "address": PLACE["address"],
            "date_of_birth": lambda contact: contact.birthday and "03/21", **MODIFIED,
        },
        "LEID", "texts", "\n",
    ),
    "google_contacts": Layout(
        _columns(
            ("First Name", _same("first_name")), "Middle Name", ("Last Name", _same("last_name")),
            "Phonetic First Name", "Phonetic Middle Name", "Phonetic Last Name", "Name Prefix", "Name Suffix",
            "Nickname", "File As", ("Organization Name", _same("company")), "Organization Title",
            "Organization Department", ("Birthday", _same("birthday")), "Notes", "Photo",
            ("Labels", lambda _: "* myContacts"), ("E-mail 1 - Label", lambda _: "* Work"),
            ("E-mail 1 - Value", _same("email")), "E-mail 2 - Label", "E-mail 2 - Value",
            ("Phone 1 - Label", lambda _: "Work"), ("Phone 1 - Value", _same("phone")),
            ("Phone 2 - Label", lambda _: "Mobile"), ("Phone 2 - Value", _same("mobile")),
            ("Address 1 - Label", lambda _: "Home"), ("Address 1 - Formatted", _same("street")),
            ("Address 1 - Street", _same("street")), ("Address 1 - City", _same("city")), "Address 1 - PO Box",
            ("Address 1 - Region", _same("state")), ("Address 1 - Postal Code", _same("postcode")),
            ("Address 1 - Country", _same("country")), "Address 1 - Extended Address",
        ),
        {**KNOWN, "date_of_birth": _same("birthday")}, None, newline="\n",
    ),
    "outlook": Layout(
        _columns(
            "Title", ("First Name", _same("first_name")), "Middle Name", ("Last Name", _same("last_name")), "Suffix",
            ("Company", _same("company")), "Department", "Job Title", ("Business Street", _same("street")),
            "Business Street 2", "Business Street 3", ("Business City", _same("city")),
            ("Business State", _same("state")), ("Business Postal Code", _same("postcode")),
            ("Business Country/Region", _same("country")), "Home Street", "Home Street 2", "Home Street 3", "Home City",
            "Home State", "Home Postal Code", "Home Country/Region", "Other Street", "Other Street 2", "Other Street 3",
            "Other City", "Other State", "Other Postal Code", "Other Country/Region", "Assistant's Phone",
            "Business Fax", ("Business Phone", _same("phone")), "Business Phone 2", "Callback", "Car Phone",
            "Company Main Phone", "Home Fax", "Home Phone", "Home Phone 2", "ISDN", ("Mobile Phone", _same("mobile")),
            "Other Fax", "Other Phone", "Pager", "Primary Phone", "Radio Phone", "TTY/TDD Phone", "Telex", "Account",
            ("Anniversary", lambda _: "0/0/00"), "Assistant's Name", "Billing Information",
            ("Birthday", lambda contact: contact.birthday or "0/0/00"), "Business Address PO Box", "Categories",
            "Children", "Directory Server", ("E-mail Address", _same("email")), ("E-mail Type", lambda _: "SMTP"),
            ("E-mail Display Name", lambda contact: f"{contact.name} ({contact.email})"), "E-mail 2 Address",
            "E-mail 2 Type", "E-mail 2 Display Name", "E-mail 3 Address", "E-mail 3 Type", "E-mail 3 Display Name",
            ("Gender", lambda _: "Unspecified"), "Government ID Number", "Hobby", "Home Address PO Box", "Initials",
            "Internet Free Busy", "Keywords", "Language", "Location", "Manager's Name", "Mileage", "Notes",
            "Office Location", "Organizational ID Number", "Other Address PO Box", ("Priority", lambda _: "Normal"),
            ("Private", lambda _: "False"), "Profession", "Referred By", ("Sensitivity", lambda _: "Normal"), "Spouse",
            "User 1", "User 2", "User 3", "User 4", "Web Page",
        ),
        {**KNOWN, "date_of_birth": lambda contact: contact.birthday or "0/0/00"}, None, encoding="cp1252",
    ),
    "freshsales": Layout(
        _columns(
            ("Id", lambda contact: f"70{contact.number}"), ("First name", _same("first_name")),
            ("Last name", _same("last_name")), "Job title", ("Emails", _same("email")), ("Work", _nothing),
            ("Mobile number", _same("mobile")), ("Work number", _same("phone")), ("Address", _same("street")),
            ("City", _same("city")), ("State", _same("state")), ("Zipcode", _same("postcode")),
            ("Country", _same("country")), ("Sales accounts", _same("company")), ("Sales owner", lambda _: "Jo Admin"),
            ("Created at", lambda _: "2026-11-27T08:00:00Z"), ("Updated at", lambda _: "2026-11-27T08:00:00Z"),
        ),
        {**KNOWN, "modified_at": lambda _: "2026-11-27T08:00:00.000000Z"}, "Id", newline="\n",
    ),
    "klaviyo": Layout(
        _columns(
            ("Email", _same("email")), ("Klaviyo ID", lambda contact: f"01HZ{contact.number:022d}"),
            ("First Name", _same("first_name")), ("Last Name", _same("last_name")),
            ("Organization", _same("company")), "Title", ("Phone Number", _same("phone")), ("Address", _same("street")),
            "Address 2", ("City", _same("city")), ("State / Region", _same("state")), ("Country", _same("country")),
            ("Zip Code", _same("postcode")), "Latitude", "Longitude", "Source",
            ("Email Marketing Consent", lambda _: "NEVER"),
            ("First Active", lambda _: "2026-11-27 08:00:00"), ("Last Active", lambda _: "2026-11-27 08:00:00"),
        ),
        {**KNOWN, "phone": _same("phone"), "phones": _nothing}, "Klaviyo ID", newline="\n",
    ),
    "intercom": Layout(
        _columns(
            ("Name", _same("name")), ("Type", lambda _: "user"), "Owner", ("Company name", _same("company")),
            ("Email", _same("email")), ("Phone", _same("phone")), ("User ID", _same("number")),
            ("First Seen (UTC)", lambda _: "2026-11-27 08:00:00"), ("Last seen (UTC)", lambda _: "2026-11-27 08:00:00"),
            ("Web sessions", lambda _: 3), ("City", _same("city")), ("Country", _same("country")), "Browser Language",
        ),
        {
            "email": _same("email"), "phone": _same("phone"), "company": _same("company"), "city": _same("city"),
            "country": _same("country"),
        },
        "User ID", newline="\n",
    ),
    "woocommerce": Layout(
        _columns(
            ("customer_id", _same("number")), ("first_name", _same("first_name")), ("last_name", _same("last_name")),
            ("user_login", lambda contact: f"user{contact.number}"), ("email", _same("email")), "user_pass",
            ("date_registered", lambda _: "2026-11-27 08:00:00"), ("billing_first_name", _same("first_name")),
            ("billing_last_name", _same("last_name")), ("billing_company", _same("company")),
            ("billing_email", _same("email")), ("billing_phone", _same("phone")),
            ("billing_address_1", _same("street")),
            "billing_address_2", ("billing_postcode", _same("postcode")), ("billing_city", _same("city")),
            ("billing_state", _same("state")), ("billing_country", _same("country")), "shipping_company",
            "shipping_address_1", "shipping_city", ("total_spent", lambda _: "120.50"), ("order_count", lambda _: 3),
        ),
        {**KNOWN, "phone": _same("phone"), "phones": _nothing}, "customer_id", newline="\n",
    ),
    "bigcommerce": Layout(
        _columns(
            ("Customer ID", _same("number")), ("First Name", _same("first_name")), ("Last Name", _same("last_name")),
            ("Company", _same("company")), ("Email", _same("email")), ("Phone", _same("phone")), "Notes",
            ("Store Credit", lambda _: "0.00"), "Customer Group", ("Date Joined", lambda _: "11/27/2026"),
            "Address ID - 1", "Address First Name - 1", "Address Last Name - 1", "Address Company - 1",
            ("Address Line 1 - 1", _same("street")), "Address Line 2 - 1", ("City/Suburb - 1", _same("city")),
            ("State - 1", _same("state")), ("Zip/Postcode - 1", _same("postcode")), ("Country - 1", _same("country")),
            ("Address Phone - 1", _same("mobile")), ("Receive Review Emails?", lambda _: "Yes"),
        ),
        KNOWN, "Customer ID",
    ),
}  # fmt: skip


def write(system: str, rows: Iterable[Contact], id_column: str | None = None) -> bytes:
    """The content of the system's export. With an `id_column`, a column of that name has the contacts' numbers: in
    place of the system's own ids, or as an additional column."""
    layout = LAYOUTS[system]
    columns = {**layout.columns, **({id_column: _same("number")} if id_column else {})}
    lines: list[list[object]] = [list(columns), *([tell(contact) for tell in columns.values()] for contact in rows)]
    text = "".join(",".join(_cell(value, layout.quoted) for value in line) + layout.newline for line in lines)
    text += "".join(line + layout.newline for line in layout.footer)
    return text.encode(layout.encoding)


def _cell(value: object, quoted: str) -> str:
    text = str(value)
    needed = any(c in text for c in ',"\r\n') or text != text.strip()
    if quoted == "all" or needed or (quoted == "texts" and " " in text):
        return '"' + text.replace('"', '""') + '"'
    return text


def id_of(system: str, contact: Contact) -> int | str:
    """The id that is to be read of a contact; without an id column, the number of one that was added."""
    layout = LAYOUTS[system]
    if layout.id_column is None:
        return contact.number
    if system == "salesforce_report":
        return long_salesforce_id(contact.number)
    written = str(layout.columns[layout.id_column](contact)).lstrip("'")
    return int(written) if written.isdigit() else written


def expected(system: str, contact: Contact) -> dict[str, Any]:
    """The record that is to be read of a contact, without its source; fields that are not known are None."""
    fields = {name: tell(contact) or None for name, tell in LAYOUTS[system].fields.items()}
    return {"customer_id": id_of(system, contact), "name": _one_line(contact.name) or None, **fields}


def main() -> None:
    """Writes an export of made-up contacts to standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.crm_exports", description=main.__doc__)
    parser.add_argument("system", choices=LAYOUTS)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    sys.stdout.buffer.write(write(said.system, contacts(said.count, said.seed)))


if __name__ == "__main__":
    main()
