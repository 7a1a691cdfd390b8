from dataclasses import replace
from functools import partial
from typing import Any

import phonenumbers
import pytest
from dedup.matching import normalise
from dedup.matching.rules import conventions_of
from dedup.matching.settings import Settings
from hypothesis import assume, example, given
from hypothesis import strategies as st

texts = st.text(max_size=40) | st.text("aÉß ﬁ'-.,@+0129/İŁйЮЬΣ李이あعא्😀´", max_size=20)
regions = st.sampled_from(["US", "GB", "DE", "IT", "FR", "JP", "BR"])
names = st.sampled_from(["Ann", "José", "Łukasz", "O'Brien", "van den Berg", "Müller-Lüdenscheidt", "Bill", "李"])

DEFAULT = conventions_of(Settings.load().model_dump())
email = partial(normalise.email, providers=DEFAULT.providers)
date = partial(normalise.date, placeholders=DEFAULT.placeholder_dates)

ONE_TEXT: dict[str, Any] = {
    "fold": normalise.fold,
    "email": email,
    "country": normalise.country,
    "postcode": normalise.postcode,
    "address": normalise.address,
    "city": normalise.city,
    "company": normalise.company,
    "date": date,
}


@pytest.mark.parametrize("function", ONE_TEXT.values(), ids=ONE_TEXT)
@given(text=texts)
@example(text="")
@example(text="İ")
@example(text="ŉ")
@example(text="\u0345\u03b9")
def test_own_answer_comes_back_unchanged(function: Any, text: str) -> None:
    once = function(text)

    assert once is None or function(once) == once


@given(text=texts, region=regions)
def test_phone_comes_back_unchanged_whatever_the_region(text: str, region: str) -> None:
    once = normalise.phone(text, region)

    assert once is None or normalise.phone(once, region) == once


@given(st.from_regex(r"(\+?1[ .-]?)?\(?[2-9][0-9]{2}\)?[ .-]?[0-9]{3}[ .-]?[0-9]{4}", fullmatch=True), regions)
def test_usual_numbers_are_read_as_phonenumbers_reads_them(text: str, region: str) -> None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        assume(False)
    expected = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

    assert normalise.phone(text, region) == (expected if phonenumbers.is_possible_number(number) else None)


@given(st.dictionaries(st.sampled_from(normalise.FIELDS), st.none() | texts), regions)
def test_any_record_can_be_normalised(fields: dict[str, str | None], region: str) -> None:
    comparable = normalise.record(fields, replace(DEFAULT, region=region))

    assert tuple(comparable) == normalise.COLUMNS
    assert all(value is None or value for value in comparable.values())
    # Engines count other letters as bytes, as UTF-16 or as letters.
    assert all(value is None or value.isascii() for column, value in comparable.items() if column != "email")


@given(names, names)
def test_order_of_the_parts_does_not_matter_with_a_comma(given_name: str, family: str) -> None:
    assume("van" not in given_name)

    assert normalise.name(f"{given_name} {family}") == normalise.name(f"{family}, {given_name}")


@given(texts)
def test_name_is_the_same_in_any_case_and_without_accents(text: str) -> None:
    assert normalise.name(text) == normalise.name(normalise.fold(text))


@pytest.mark.parametrize(
    ("text", "given_name", "family", "root"),
    [
        ("Dr. José Ángel van den Berg Jr.", "jose", "vandenberg", "joseph"),
        ("Van den Berg, José", "jose", "vandenberg", "joseph"),
        ("BILL O’BRIEN", "bill", "obrien", "william"),
        ("Trish Doe", "trish", "doe", "patrick"),
        ("Lord Jack Lord", "jack", "lord", "john"),
        ("Ing, Peter", "peter", "ing", "peter"),
        ("Prof. Dr. Jane Roe, PhD", "jane", "roe", "jane"),
        ("Jane Roe Dr.", "jane", "roe", "jane"),
        ("María del Carmen García", "maria", "garcia", "maria"),
        ("María de los Ángeles de la Hoya", "maria", "delahoya", "maria"),
        ("Juan de la Cruz", "juan", "delacruz", "juan"),
        ("Mary-Ann Smith-Jones", "maryann", "smithjones", "maryann"),
        ("Smith, Jr.", "smith", None, "smith"),
        ("John Smith, Jr.", "john", "smith", "john"),
        ("Smith,", None, "smith", None),
        ("Prince", "prince", None, "prince"),
        ("李小龙", "lixiaolong", None, "lixiaolong"),
        ("Иван Сергеевич Кузьмин", "ivan", "kuzmin", "ivan"),
        ("И. Кузьмин", "i", "kuzmin", "i"),
        ("Γεώργιος Παππάς", "georgios", "pappas", "georgios"),
        ("مُحَمَّد علي", "mhmd", "ly", "mhmd"),
        ("Ana 😀 Lima ❤", "ana", "lima", "ana"),
        ("Mr", "mr", None, "mr"),
        ("", None, None, None),
        (None, None, None, None),
    ],
)
def test_name_is_split(text: str | None, given_name: str | None, family: str | None, root: str | None) -> None:
    assert normalise.name(text)[:3] == (given_name, family, root)


@pytest.mark.parametrize("one_letter", ["이", "阿", "い"])
def test_syllable_or_ideograph_is_no_initial(one_letter: str) -> None:
    given_name = normalise.name(f"{one_letter} Park").given

    assert given_name
    assert len(given_name) > 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("Щукин", "Shchukin"), ("ЮЛИЯ", "юлия"), ("й", "и\u0306"), ("ｶﾞ", "ガ"), ("한", "\u1112\u1161\u11ab"), ("ẞ", "SS")],
)
def test_one_text_in_two_spellings_is_one(one: str, other: str) -> None:
    assert normalise.fold(one) == normalise.fold(other)


def test_text_that_is_long_in_ascii_is_cut() -> None:
    assert len(normalise.fold("\ufdfa" * 255)) <= normalise.LONGEST


def test_mailbox_that_spells_the_name_in_another_alphabet_says_nothing() -> None:
    assert normalise.mailbox("иван.петров@example.com", normalise.name("Иван Петров")) is None
    assert normalise.mailbox("петров82@example.com", normalise.name("Иван Петров")) == "petrov82"


def test_nickname_has_one_root_and_a_root_is_its_own() -> None:
    classes = normalise._classes()

    assert all(normalise.root(root) == root for root, _ in classes.values())
    assert all(full is None or normalise.formal(full) in (full, None) for _, full in classes.values())
    assert {normalise.root(name) for name in ("bill", "will", "liam", "william")} == {"william"}


@pytest.mark.parametrize(
    ("short", "full"),
    [("bill", "william"), ("trish", "patricia"), ("patrick", "patrick"), ("pat", None), ("chris", None), ("zoe", None)],
)
def test_full_name_is_known_where_a_name_is_short_for_one_alone(short: str, full: str | None) -> None:
    assert normalise.formal(short) == full


@pytest.mark.parametrize(("one", "other"), [("michael", "michelle"), ("daniel", "danielle"), ("charles", "charlotte")])
def test_names_without_a_common_short_name_are_different(one: str, other: str) -> None:
    assert normalise.root(one) != normalise.root(other)


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("J.Doe+news@GoogleMail.com", "jdoe@gmail.com"),
        ("j.doe@gmail.com", "jdoe@gmail.com"),
        ("j.doe@example.com", "j.doe@example.com"),
        (" Jane@Example.COM. ", "jane@example.com"),
        ("jane+x@example.com", "jane@example.com"),
        ("jane-x@yahoo.com", "jane@yahoo.com"),
        ("+@example.com", "+@example.com"),
        ("no address", None),
        ("@example.com", None),
        (None, None),
    ],
)
def test_email_is_the_mailbox_that_it_leads_to(text: str | None, mailbox: str | None) -> None:
    assert email(text) == mailbox


@pytest.mark.parametrize(
    ("address", "says_more"),
    [
        ("bob.doe", False),
        ("bdoe", False),
        ("doe_b", False),
        ("bd", False),
        ("robert.doe", False),
        ("bobby_doe", False),
        ("bob.doe1", False),
        ("bdoe7", False),
        ("bob.doe82", True),
        ("blue.kite", True),
        ("jane.doe", True),
    ],
)
def test_mailbox_that_spells_the_name_says_nothing(address: str, says_more: bool) -> None:
    found = normalise.mailbox(f"{address}@example.com", normalise.name("Bob Doe"))

    assert found == (address if says_more else None)


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("(202) 555-0123", "US", "+12025550123"),
        ("202.555.0123 ext. 9", "US", "+12025550123"),
        ("+44 20 7946 0018", "US", "+442079460018"),
        ("020 7946 0018", "GB", "+442079460018"),
        ("12", "US", None),
        ("call me", "US", None),
        ("", "US", None),
    ],
)
def test_phone_is_read_in_its_country(text: str, region: str, number: str | None) -> None:
    assert normalise.phone(text, region) == number


@pytest.mark.parametrize(
    ("text", "country", "code"),
    [
        ("02139-4307", "US", "02139"),
        ("2139", "US", "02139"),
        ("021394307", "US", "02139"),
        ("sw1a 1aa", "GB", "SW1A1AA"),
        ("SW1A1AA", "GB", "SW1A1AA"),
        ("2139", "AU", "2139"),
        (" ", "US", None),
    ],
)
def test_postcode(text: str, country: str, code: str | None) -> None:
    assert normalise.postcode(text, country) == code


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("1980-02-03", "1980-02-03"),
        ("1980-2-3T00:00:00Z", "1980-02-03"),
        ("19800203", "1980-02-03"),
        ("3.2.1980", "1980-02-03"),
        ("1980-02-34", "1980-02-34"),
        ("02/03/1980", None),
        ("1900-01-01", None),
        ("soon", None),
    ],
)
def test_date(text: str, day: str | None) -> None:
    assert date(text) == day


def test_company_and_address_lose_their_variants() -> None:
    assert normalise.company("The Müller & Co. KG") == normalise.company("MULLER AND CO") == "muller"
    assert normalise.company("Johnson & Johnson Inc.") == "johnson and johnson"
    assert normalise.address("12 Saint John's Street, Flat 3") == normalise.address("12 st johns st. apt 3")
    assert normalise.country("U.K.") == "u k"
    assert normalise.country("uk") == normalise.country("United Kingdom") == "GB"


@pytest.mark.parametrize("raw", ["0000-00-00", "1980-00-12", "1980-02-00", "1899-12-30"])
def test_what_systems_store_for_no_date_is_none(raw: str) -> None:
    assert date(raw) is None
