"""What tells which customer a row is about: an id, and email addresses in one form however they are written.

Two addresses that lead to one mailbox have one form: case, Unicode composition (NFC and NFD), compatibility forms and
punycode (RFC 3492) make no difference."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import product
from typing import NamedTuple
from urllib.parse import unquote

_BETWEEN = re.compile(r"""[\s,;:|<>()\[\]"\\]+""")
_AROUND = "'`\u2018\u2019\u201c\u201d."
"""What may stand around an address and is not part of it: quotation marks, and the full stop of a sentence."""

_AFTER_DOMAIN = re.compile(r"[/?&#].*", re.DOTALL)
_MAX_DOMAIN = 255


_SEPARATOR = re.compile(r"[\W_]")
_MAX_PARTS = 8
"""Parts of a key, to the left and to the right of an @, that an address may consist of."""


class Trace(NamedTuple):
    """Whom one row is about. `line`: of the row in its file; the id is None where the row says none."""

    line: int
    customer_id: int | None
    addresses: Iterable[str]


def addresses(text: str) -> set[str]:
    """The addresses in a text, each in its one form. There may be several, and other text between them: CRMs export
    lists in one cell."""
    parts = _BETWEEN.split(unicodedata.normalize("NFKC", text))
    return set(_in_one_form(part.strip(_AROUND) for part in parts if "@" in part))


def addresses_in_key(key: str) -> set[str]:
    """The addresses that the key of an object may contain: of `7-ann.lee@example.com.csv` all texts around the @ that
    begin and end at a separator, for only a person sees which of them is one."""
    found: set[str] = set()
    for part in re.split(r"[/\s]", unquote(key)):
        local, at, domain = unicodedata.normalize("NFKC", part).rpartition("@")
        if at:
            begins = [0, *(separator.end() for separator in _SEPARATOR.finditer(local))]
            ends = [*(separator.start() for separator in _SEPARATOR.finditer(domain)), len(domain)]
            parts = product(begins[-_MAX_PARTS:], ends[:_MAX_PARTS])
            found.update(_in_one_form(f"{local[begin:]}@{domain[:end]}" for begin, end in parts))
    return found


def words(text: str) -> set[str]:
    """The words of a text, in no case and without accents."""
    plain = unicodedata.normalize("NFKD", unquote(text).casefold())
    return set(_SEPARATOR.sub(" ", "".join(c for c in plain if not unicodedata.combining(c))).split())


class Hashes:
    """What the database keeps of ids and addresses: 64 bits of SHA-256, with a salt that only it knows."""

    def __init__(self, salt: bytes) -> None:
        self._salted = sha256(salt)

    def of(self, text: str) -> int:
        """A text's hash, as a signed number of 64 bits."""
        hashed = self._salted.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hashed.digest()[:8], "big", signed=True)

    def customer(self, customer_id: int) -> int:
        """A customer id's hash."""
        return self.of(str(customer_id))

    def emails(self, found: Iterable[str]) -> list[int]:
        """The hashes of addresses in their one form, in ascending order."""
        return sorted({self.of(address) for address in found})


def _in_one_form(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        local, _, domain = part.rpartition("@")
        domain = _AFTER_DOMAIN.sub("", domain).strip(".")
        if local and domain:
            # Again: what was in another case may compose.
            yield f"{unicodedata.normalize('NFKC', local.casefold())}@{_ascii_domain(domain)}"


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    """The domain as DNS has it; in lower case where it is none."""
    if domain.isascii() or len(domain) > _MAX_DOMAIN:
        return domain.casefold()
    import idna  # only for the few files that need it

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return unicodedata.normalize("NFKC", domain.casefold())
