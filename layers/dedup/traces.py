"""Traces of a customer in a row: the customer id, and email addresses in canonical form.

The canonical form is equal for addresses of the same mailbox: it does not depend on case, Unicode composition (NFC or
NFD), compatibility characters or punycode (RFC 3492)."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import product
from typing import NamedTuple
from urllib.parse import unquote

from dedup.customer_ids import CustomerId

_BETWEEN = re.compile(r"""[\s,;:|<>()\[\]"\\]+""")
_AROUND = "'`\u2018\u2019\u201c\u201d."
"""Characters around an address that are not part of it: quotation marks, and the full stop of a sentence."""

_AFTER_DOMAIN = re.compile(r"[/?&#].*", re.DOTALL)
_MAX_DOMAIN = 255


_SEPARATOR = re.compile(r"[\W_]")
_MAX_PARTS = 8
"""Most parts of a key on each side of an @ that are tried as parts of an address."""


class Trace(NamedTuple):
    """The customer id and the addresses in a row. `line` is the row's line in its file; `customer_id` is None if the
    row has no id."""

    line: int
    customer_id: CustomerId | None
    addresses: Iterable[str]


def addresses(text: str) -> set[str]:
    """Returns the addresses in a text, in canonical form. A text may have several: CRMs export lists in one cell."""
    parts = _BETWEEN.split(unicodedata.normalize("NFKC", text))
    return set(_canonical(part.strip(_AROUND) for part in parts if "@" in part))


def addresses_in_key(key: str) -> set[str]:
    """Returns all addresses that the key of an object may contain, in canonical form.

    In `7-ann.lee@example.com.csv` it is not certain where the address starts and ends, so all combinations of parts
    between separators are returned."""
    found: set[str] = set()
    for part in re.split(r"[/\s]", unquote(key)):
        local, at, domain = unicodedata.normalize("NFKC", part).rpartition("@")
        if at:
            begins = [0, *(separator.end() for separator in _SEPARATOR.finditer(local))]
            ends = [*(separator.start() for separator in _SEPARATOR.finditer(domain)), len(domain)]
            parts = product(begins[-_MAX_PARTS:], ends[:_MAX_PARTS])
            found.update(_canonical(f"{local[begin:]}@{domain[:end]}" for begin, end in parts))
    return found


def words(text: str) -> set[str]:
    """Returns the words of a text, case-folded and without accents."""
    plain = unicodedata.normalize("NFKD", unquote(text).casefold())
    return set(_SEPARATOR.sub(" ", "".join(c for c in plain if not unicodedata.combining(c))).split())


class Hashes:
    """Salted hashes of ids and addresses, as the database stores them: the first 64 bits of SHA-256. The salt is stored
    in the database only."""

    def __init__(self, salt: bytes) -> None:
        self._salted = sha256(salt)

    def of(self, text: str) -> int:
        """Returns the hash of a text as a signed 64-bit integer."""
        hashed = self._salted.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hashed.digest()[:8], "big", signed=True)

    def customer(self, customer_id: CustomerId) -> int:
        """Returns the hash of a customer id."""
        return self.of(str(customer_id))

    def emails(self, found: Iterable[str]) -> list[int]:
        """Returns the hashes of addresses in canonical form, in ascending order."""
        return sorted({self.of(address) for address in found})


def _canonical(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        local, _, domain = part.rpartition("@")
        domain = _AFTER_DOMAIN.sub("", domain).strip(".")
        if local and domain:
            # Normalised again, because characters may compose after case folding.
            yield f"{unicodedata.normalize('NFKC', local.casefold())}@{_ascii_domain(domain)}"


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    """Returns the domain as it is in DNS (punycode). If it is not valid, returns it in lower case."""
    if domain.isascii() or len(domain) > _MAX_DOMAIN:
        return domain.casefold()
    import idna  # imported here, because few files need it

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return unicodedata.normalize("NFKC", domain.casefold())
