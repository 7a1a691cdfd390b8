"""Hostile input: malformed and malicious requests and files.

No response is 5xx, except 503 while PostgreSQL is down. No response contains a traceback. A refused request, or one
that only reads, changes nothing in the database.
"""

import base64
import gzip
import http.client
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests import exports
from tests.attack import inputs
from tests.attack.stack import Finding, Stack, bucket_put, is_failure, taken_mb
from tests.routes import read_template

SOURCES = ("salesforce", "hubspot", "internal")
FILES_PART = 0.25
"""The share of files among the attempts."""

BREAK_EVERY = 60
VERIFY_EVERY = 40
SETTINGS_EVERY = 50
MINIMISE_SECONDS = 30.0

TEXTS = (
    "",
    " ",
    "\x00",
    "\u202egnirts",
    "\U0001f600" * 300,
    "e\u0301" * 200,
    "\ud800",
    "'; DROP TABLE record; --",
    "\\'; SELECT pg_sleep(9); --",
    "$$;$$",
    "%00%0a%0d",
    "../../etc/passwd",
    "{0.__class__}",
    ":name %s {}",
    "a,b,,c",
    "hubspot,hubspot",
    "hubspot,",
    "ＨＵＢＳＰＯＴ",
    "x" * 5000,
    "NaN",
    "null",
    "true",
    "[]",
    "٣",
    "1e400",
    "0x10",
    "+1",
    "-0",
    "1_000",
    "1.0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "9" * 400,
)
JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    2**63,
    -(2**63) - 1,
    10**400,
    [],
    {},
    [[]],
    {"a": {"b": {}}},
    [None],
    *TEXTS,
)
RAW = (
    b"",
    b"{",
    b"[",
    b"\xff\xfe",
    b"\x00",
    b"null",
    b'"text"',
    b"1e999",
    b"NaN",
    b"[" * 5000,
    b'{"customers":' * 3000,
    b'{"customer_id": 1, "customer_id": 2}',
    b'{"customers": [{}' + b",{}" * 2000 + b"]}",
    b"9" * 6000,
    b"\xef\xbb\xbf{}",
    gzip.compress(b"{}"),
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("Content-Type", "text/plain"),
    ("Content-Type", "Application/JSON; charset=utf-16"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", ""),
    ("Content-Type", "application/json\tx"),
    ("Content-Encoding", "gzip"),
    ("Idempotency-Key", ""),
    ("Idempotency-Key", "a b"),
    ("Idempotency-Key", "k" * 255),
    ("Idempotency-Key", "k" * 256),
    ("Idempotency-Key", "'; DROP TABLE upload; --"),
    ("Accept", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("Accept", "*/*;q=x, ,"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Forwarded-Proto", "javascript"),
    ("X-Forwarded-Host", "evil.example.com"),
    ("Host", "evil.example.com"),
    ("Origin", "null"),
    ("Range", "bytes=0-1"),
    ("Cookie", "a=" + "b" * 4000),
    ("Authorization", "Bearer " + "x" * 500),
)
PARAMETERS = ("limit", "cursor", "by", "in", "not_in", "region", "format", "since", "min_records", "confirm", "notin")
RECORD = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}
BODIES: Mapping[str, Any] = {
    "/api/v1/customers": RECORD,
    "/api/v1/customers/bulk": {"customers": [RECORD, RECORD | {"customer_id": 2, "phone": "1", "city": "Rome"}]},
    "/api/v1/uploads": {"filename": "a.csv", "source": "hubspot", "mode": "add", "size": 3},
    "/api/v1/uploads/snapshots": {"filename": "a.csv", "source": "hubspot", "size": 3},
    "/api/v1/exports": {"in": ["hubspot"], "not_in": [], "region": [], "by": "customer", "format": "csv"},
    "/api/v1/deduplication/jobs": {"prefix": "incoming/"},
    "/api/v1/matching/runs": {
        "settings": {"methods": ["rules"], "thresholds": {"match": 3}, "constraints": {"max_entity": 9}}
    },
    "/api/v1/matching/decisions": {"record_ids": [1, 2], "verdict": "same", "note": "n"},
    "/api/v1/entities/lookup": {"name": "Ann", "email": "ann@example.com", "customer_id": 1, "source": "hubspot"},
}


JSON = (("Content-Type", "application/json"),)
TINY_ITEMS = 500_000
REQUEST_MB = 300


@dataclass(frozen=True)
class Request:
    """One request, with the bytes that are sent."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    def __str__(self) -> str:
        body = self.body if self.body is None or len(self.body) < 600 else self.body[:600] + b"..."
        return f"{self.method} {self.target[:600]} {[(n, v[:200]) for n, v in self.headers]} {body!r}"


@dataclass(frozen=True)
class Route:
    """A method and a path of the template, with parameters in braces."""

    method: str
    path: str


def routes() -> list[Route]:
    """All routes of the template."""

    template = read_template()
    return [
        Route(event["Properties"]["Method"].upper(), event["Properties"]["Path"])
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
        for event in resource["Properties"].get("Events", {}).values()
        if event["Type"] == "Api"
    ]


@dataclass
class Attacker:
    """Generates requests from one seed. `cursors` are valid cursors of other operations."""

    chance: random.Random
    routes: Sequence[Route]
    cursors: list[str]

    def request(self) -> Request:
        """The next request."""
        route = self.chance.choice(self.routes)
        method = route.method if self.chance.random() < 0.9 else self.chance.choice(["PUT", "PATCH", "HEAD", "POST"])
        path = re.sub(r"\{\w+\}", lambda _: self._parameter(), route.path)
        if self.chance.random() < 0.06:
            path = self._mutated_path(path)
        if method == "DELETE" and self._empties(path):
            # It would delete all records, which is no defect.
            path = "/api/v1/customers/999"
        body = self._body(route) if method in ("POST", "PUT", "PATCH") or self.chance.random() < 0.05 else None
        return Request(method, path + self._query(), self._headers(body), body)

    def _empties(self, path: str) -> bool:
        return path == "/api/v1/customers"

    def _parameter(self) -> str:
        text = self.chance.choice([*TEXTS, "1", "2", "3", "hubspot", "lib.js"])
        return quote(text.encode("utf-8", "surrogatepass"), safe="") if self.chance.random() < 0.95 else "%zz%"

    def _mutated_path(self, path: str) -> str:
        return self.chance.choice(
            [path + "/", "/" + path, path.upper(), path.replace("/", "//", 3), path + "/x", path + ";a=b", path + "%2f"]
        )

    def _query(self) -> str:
        if self.chance.random() < 0.4:
            return ""
        pairs = [(self.chance.choice(PARAMETERS), self._value()) for _ in range(self.chance.choice([1, 1, 2, 3]))]
        text = urlencode(pairs, errors="surrogatepass")
        return "?" + (
            text if self.chance.random() < 0.95 else self.chance.choice(["=", "&&", "limit", "%zz=1", "a[]=1"])
        )

    def _value(self) -> str:
        if self.cursors and self.chance.random() < 0.3:
            cursor = self.chance.choice(self.cursors)
            if self.chance.random() < 0.5:
                return cursor
            place = self.chance.randrange(len(cursor))
            return cursor[:place] + self.chance.choice("AZ-_=%\u00e9") + cursor[place + 1 :]
        if self.chance.random() < 0.1:
            made = json.dumps({self.chance.choice(["id", "ids"]): self.chance.choice(JSON_VALUES)}).encode()
            return base64.urlsafe_b64encode(bytes(6) + made).decode()
        return self.chance.choice(
            [*TEXTS, "1", "10", "entity", "customer", "hubspot", "internal,hubspot", "csv", "xlsx"]
        )

    def _headers(self, body: bytes | None) -> tuple[tuple[str, str], ...]:
        headers = [("Content-Type", "application/json")] if body is not None else []
        for _ in range(self.chance.choice([0, 0, 0, 1, 2])):
            name, value = self.chance.choice(HEADERS)
            headers = [*(header for header in headers if header[0] != name), (name, value)]
        return tuple(headers)

    def _body(self, route: Route) -> bytes:
        if self.chance.random() < 0.15:
            return self.chance.choice(RAW)
        wish = json.loads(json.dumps(BODIES.get(route.path, RECORD)))
        for _ in range(self.chance.choice([0, 1, 1, 2, 4])):
            wish = self._mutated(wish)
        data = json.dumps(wish, ensure_ascii=self.chance.random() < 0.5).encode("utf-8", "surrogatepass")
        if self.chance.random() < 0.1:
            data = mutated(data, self.chance)
        return data

    def _mutated(self, value: Any) -> Any:
        """The value with a random change."""
        if isinstance(value, dict) and value and self.chance.random() < 0.85:
            name = self.chance.choice(list(value))
            match self.chance.randrange(6):
                case 0:
                    return {n: v for n, v in value.items() if n != name}
                case 1:
                    return value | {self.chance.choice([*TEXTS, name.upper(), f"{name} "]): value[name]}
            return value | {name: self._mutated(value[name])}
        if isinstance(value, list) and value and self.chance.random() < 0.85:
            place = self.chance.randrange(len(value))
            if self.chance.random() < 0.2:
                return value * self.chance.choice([0, 2, 30])
            return [*value[:place], self._mutated(value[place]), *value[place + 1 :]]
        return self.chance.choice(JSON_VALUES)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with some bytes changed, removed, repeated or truncated."""
    for _ in range(chance.choice([1, 1, 3, 10])):
        if not data:
            break
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice([1, 1, 2, 8, 64]))
        match chance.randrange(6):
            case 0:
                data = data[:start] + bytes(chance.randrange(256) for _ in range(end - start)) + data[end:]
            case 1:
                data = data[:start] + data[end:]
            case 2:
                data = data[:end] + data[start:]
            case 3:
                data = (
                    data[:start]
                    + chance.choice([b'"', b"\x00", b"\r", b"\n", b",", b"{", b"\xff", b"="])
                    + data[start:]
                )
            case 4 if chance.random() < 0.3:
                data = data[:start]
            case _:
                data = data[:start] + bytes([data[start] ^ (1 << chance.randrange(8))]) + data[start + 1 :]
    return data


def send(stack: Stack, request: Request) -> tuple[int, Mapping[str, str], bytes]:
    """Sends a request. Returns status, headers and body of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    try:
        connection.putrequest(
            request.method,
            request.target,
            skip_host=any(n == "Host" for n, _ in request.headers),
            skip_accept_encoding=True,
        )
        for name, value in request.headers:
            connection.putheader(name, value.encode("utf-8"))
        if request.body is not None:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def wrong(stack: Stack, request: Request) -> str | None:
    """Sends a request and checks the response. Returns what is wrong with it, or None."""
    before = None if stack.broken else stack.fingerprint()
    try:
        status, headers, body = send(stack, request)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error!r}"
    if status >= 500 and (not stack.broken or is_failure(status, body)):
        return f"{status} {body[:500]!r}"
    if b"Traceback" in body or b"site-packages" in body:
        return f"{status}, with a traceback: {body[:1000]!r}"
    if status >= 400 and headers.get("Content-Type") == "application/problem+json":
        with suppress(ValueError):
            problem = json.loads(body)
            if problem["status"] != status or not problem["title"]:
                return f"{status}, and the body says {problem}"
    changes_nothing = status >= 400 or request.method in ("GET", "HEAD")
    if changes_nothing and before and stack.fingerprint() != before:
        return f"{status}, and the database was changed"
    return None


def attack_requests(stack: Stack, attacker: Attacker, count: int) -> None:
    """Sends `count` requests. Raises Finding."""
    for _ in range(count):
        request = attacker.request()
        reason = wrong(stack, request)
        if reason:
            # While something is broken, the response does not depend on the request alone.
            least = request if stack.broken else minimised(stack, request)
            raise Finding(f"{reason}\nrequest: {request}\nleast: {least}")


def minimised(stack: Stack, request: Request) -> Request:
    """The smallest part of the request found that still gets a wrong response."""
    until = time.monotonic() + MINIMISE_SECONDS

    def fails(candidate: Request) -> bool:
        return time.monotonic() < until and wrong(stack, candidate) is not None

    def tries(of: Request) -> list[Request]:
        found = [replace(of, headers=tuple(h for h in of.headers if h != header)) for header in of.headers]
        path, _, query = of.target.partition("?")
        parts = query.split("&") if query else []
        for part in parts:
            left = "&".join(one for one in parts if one != part)
            found.append(replace(of, target=path + (f"?{left}" if left else "")))
        with suppress(ValueError, AttributeError, TypeError):
            fields = json.loads(of.body or b"")
            found += [
                replace(of, body=json.dumps({n: v for n, v in fields.items() if n != name}).encode()) for name in fields
            ]
        return found

    while shorter := next((one for one in tries(request) if fails(one)), None):
        request = shorter
    return request


def attack_files(stack: Stack, chance: random.Random, count: int, name: str) -> None:
    """Loads `count` files that are damaged or random. Raises Finding."""
    for number in range(count):
        form = chance.choice(list(exports.FORMS))
        data = exports.write(
            exports.people(chance.choice([1, 3, 40]), "hubspot", chance.randrange(100)),
            form,
            chance.choice(exports.FORMATS),
            chance.choice(exports.DELIMITERS),
            chance.choice(exports.ENCODINGS[:4]),
            None,
            chance.choice(["\r\n", "\n", "\r"]),
        )
        if chance.random() < 0.8:
            data = mutated(data, chance)
        if compression := chance.choice([None, None, "gzip", "zstd"]):
            data = exports.COMPRESSIONS[compression](data)
            if chance.random() < 0.5:
                data = mutated(data, chance)
        if chance.random() < 0.05:
            data = chance.choice([*RAW, chance.randbytes(500)])
        folder = chance.choice(["hubspot/", "hubspot/snapshot/", "", "nosuch/", "HubSpot/", "hubspot/a/b/"])
        strange = chance.choice(["", "%2e%2e%2f", "\u202e", "a b+c&d=e", "'; --", "é" * 60])
        key = f"incoming/{folder}{name}-{number}-{strange}.csv"
        metadata = chance.choice([{}, {}, {}, {"mode": "replace"}, {"source": "internal"}, {"mode": "x"}])
        bucket_put(stack, key, data, metadata)
        message = stack.message(lambda one, key=key: one.object_key == key)  # type: ignore[misc]
        replay = f"{key} {metadata} {base64.b64encode(data).decode()}"
        try:
            done = stack.deliver(message)
        except Finding as finding:
            raise Finding(f"{finding}\nfile: {replay}") from finding
        if not done:
            raise Finding(f"The file is to be delivered again\nfile: {replay}")
        rows = stack.admin(
            "SELECT status, rows, accepted, rejected, coalesce(reason, '') FROM upload ORDER BY id DESC LIMIT 1"
        )
        [[status, read, accepted, rejected, reason]] = rows
        if status not in ("done", "failed") or (status == "failed") != (accepted == 0) or "Traceback" in reason:
            raise Finding(f"{rows}\nfile: {replay}")
        if status == "failed" and not reason:
            raise Finding(f"failed without a reason\nfile: {replay}")
        if status == "done" and (read != accepted + rejected) and "left out" not in reason:
            raise Finding(f"{read} rows, {accepted} accepted and {rejected} rejected\nfile: {replay}")


def attack_settings(stack: Stack, chance: random.Random) -> None:
    """Starts a run with extreme settings, and requests everything that depends on them. Raises Finding."""
    lowest = -1e300
    edge = [lowest, -1.5, 0, 1e-9, 900, 1e9]
    low, high = sorted(chance.choices(edge, k=2))
    settings: dict[str, Any] = {
        "methods": chance.choice([["rules"], ["model"], ["rules", "model"], []]),
        "thresholds": {"keep": lowest, "review": low, "match": high, "confident": 1e300},
        "constraints": {"max_entity": chance.choice([1, 2, 10**9]), "max_rule_block": chance.choice([0, 1, 10**9])},
        "normalising": {"region": chance.choice(["US", "DE", "ZZ"]), "placeholder_dates": []},
        "survivorship": chance.choice([{}, {"trusted": ["hubspot"]}, {"default": "longest"}]),
    }
    for name in chance.sample(list(settings), chance.choice([0, 1, 3])):
        del settings[name]
    asked = Request("POST", "/api/v1/matching/runs", JSON, json.dumps({"settings": settings}).encode())
    status, _, body = send(stack, asked)
    if status == 422:
        return
    if status != 202:
        raise Finding(f"{status} {body[:500]!r}\nrequest: {asked}")
    run = json.loads(body)["id"]
    if not stack.deliver(stack.message(lambda message: message.body.get("run") == run)):
        raise Finding(f"The run is to be delivered again\nrequest: {asked}")
    status, _, body = send(stack, Request("GET", f"/api/v1/matching/runs/{run}"))
    told = json.loads(body)
    if (
        status != 200
        or told["status"] not in ("done", "failed")
        or (told["status"] == "failed") != bool(told["reason"])
    ):
        raise Finding(f"{status} {body[:500]!r}\nrequest: {asked}")
    lookup = json.dumps(BODIES["/api/v1/entities/lookup"]).encode()
    questions = [
        Request("POST", "/api/v1/entities/lookup", JSON, lookup),
        *(Request("GET", f"/api/v1/deduplication/report?format={form}") for form in ("csv", "html")),
        *(Request("GET", f"/api/v1/{path}") for path in ("entities", "matching/review", "matching/runs")),
    ]
    for question in questions:
        if reason := wrong(stack, question):
            raise Finding(f"{reason}\nrequest: {question}\nafter: {asked}")


def attack_memory(stack: Stack) -> None:
    """Sends a small body with many invalid items. Raises Finding."""
    body = b'{"customers":[' + b",".join([b"{}"] * TINY_ITEMS) + b"]}"
    if reason := wrong(stack, Request("POST", "/api/v1/customers/bulk", JSON, body)):
        raise Finding(f"{TINY_ITEMS} times {{}}: {reason}")
    for process in stack.processes():
        taken, engine = taken_mb(process)
        if taken > REQUEST_MB and not engine:
            raise Finding(f"{TINY_ITEMS} times {{}}: a function took {taken} MB, and {REQUEST_MB} are the most")


def campaign(folder: Path, seed: str, until: float, most: int) -> str:
    """Sends requests and files until the time `until`, or at most `most` requests. Returns a summary. Raises Finding,
    with the smallest request that fails."""
    chance = random.Random(f"{seed}/hostile")
    requests = files = 0
    with Stack(folder, SOURCES) as stack:
        known = [inputs.body(inputs.values(chance, SOURCES)) for _ in range(30)]
        add = Request(
            "POST",
            "/api/v1/customers/bulk",
            JSON,
            json.dumps({"customers": known}).encode(),
        )
        if reason := wrong(stack, add):
            raise Finding(reason)
        _match(stack)
        attack_memory(stack)
        attacker = Attacker(chance, routes(), _cursors(stack))
        while (time.monotonic() < until or not requests) and requests < most:
            if chance.random() < FILES_PART:
                attack_files(stack, chance, 3, f"f{files}")
                files += 3
            else:
                attack_requests(stack, attacker, 10)
                requests += 10
            stack.forget_messages()
            if requests and requests % VERIFY_EVERY == 0:
                _verify(stack)
            if requests and requests % SETTINGS_EVERY == 0:
                attack_settings(stack, chance)
            if requests and requests % BREAK_EVERY == 0:
                kind = chance.choice(["terminate", "terminate", "worker", "postgres"])
                with stack.breaking({"kind": kind, "after": chance.uniform(0, 0.1), "times": 1}):
                    attack_requests(stack, attacker, 5)
        _verify(stack)
    return f"{requests} requests and {files} files"


def _verify(stack: Stack) -> None:
    found = stack.call("Verify", {})
    if not found["agreed"]:
        raise Finding(f"verify does not agree: {found}")


def _match(stack: Stack) -> None:
    body = json.dumps({"settings": {"methods": ["rules"]}}).encode()
    send(stack, Request("POST", "/api/v1/matching/runs", JSON, body))
    if not stack.deliver(stack.message(lambda message: message.function == "Match")):
        raise Finding("the run did not end")


def _cursors(stack: Stack) -> list[str]:
    found = []
    for path in (
        "customers?limit=2",
        "deduplication/analyze?limit=2",
        "entities?limit=2",
        "deduplication/customers?limit=2",
    ):
        _, headers, _ = send(stack, Request("GET", f"/api/v1/{path}"))
        if cursor := re.search(r"cursor=([^&>]+)", headers.get("Link", "")):
            found.append(cursor[1])
    return found
