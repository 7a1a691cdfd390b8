"""Customer ids: a 64-bit integer, or a text of 1 to 255 characters.

A text that is the decimal form of a 64-bit integer is that integer: `"42"` and 42 are one id, `"042"` is another. Other
texts are compared character by character, with upper and lower case. A Salesforce id of 15 characters is converted to
its form of 18 characters, so both forms are one id, whatever the source."""

import re
from string import ascii_uppercase

CustomerId = int | str
"""A customer id as customer_id() returns it: a text is never the decimal form of a 64-bit integer."""

SMALLEST, LARGEST = -(2**63), 2**63 - 1
MAX_LENGTH = 255
"""Most characters of a text id."""

LAST_TEXT = "\U0010ffff" * MAX_LENGTH
"""No text id comes after this one."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_SALESFORCE = re.compile(
    r"(?P<id>(?=.{3}[0-9A-Za-z]{0,11}[A-Za-z])(?:001|003|005|00Q)[0-9A-Za-z]{12}|a[0-9][0-9A-Za-z]{4}000[0-9A-Za-z]{6})"
    r"(?P<check>[A-Z0-5]{3})?"
)
"""Ids of accounts, contacts, users, leads and custom objects. Other texts of 15 characters are not converted, because
other systems have such ids too. Three zeros follow the six characters of the object and the server in practice, since
the rest is a number of nine digits in base 62."""

_CHECK_CHARACTERS = f"{ascii_uppercase}012345"


class BadCustomerId(ValueError):
    """The text is not a customer id. The message is the reason, for its sender."""


def customer_id(text: str) -> CustomerId:
    """Returns the id that a text stands for; white space around it is removed. Raises BadCustomerId."""
    text = text.strip()
    if _INTEGER.fullmatch(text) and SMALLEST <= int(text) <= LARGEST:
        return int(text)
    if not text:
        raise BadCustomerId("The customer_id is missing")
    if len(text) > MAX_LENGTH:
        raise BadCustomerId(f"The customer_id has more than {MAX_LENGTH} characters")
    if _CONTROL.search(text):
        raise BadCustomerId("Control characters are not allowed")
    return _long_salesforce_id(text) if len(text) in (15, 18) else text


def order(one: CustomerId) -> tuple[bool, CustomerId]:
    """Returns the sort key of an id: integers first, in ascending order, then texts in the order of their code points.
    That is the order of their UTF-8 bytes, too."""
    return isinstance(one, str), one


def _long_salesforce_id(text: str) -> str:
    """Returns a Salesforce id of 15 characters with the three that Salesforce adds: each encodes which of five
    characters are upper case (bit 0 is the first of the five). Other texts are returned unchanged. Raises BadCustomerId
    if the text has 18 characters and the last three do not belong to the others."""
    found = _SALESFORCE.fullmatch(text)
    if not found:
        return text
    short, check = found["id"], found["check"]
    upper = [short[start : start + 5] for start in (0, 5, 10)]
    expected = "".join(
        _CHECK_CHARACTERS[sum(1 << bit for bit, character in enumerate(five) if "A" <= character <= "Z")]
        for five in upper
    )
    if check not in (None, expected):
        raise BadCustomerId(
            "The last three characters do not belong to this Salesforce id: characters were changed, or changed case"
        )
    return short + expected
