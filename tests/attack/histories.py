"""Histories: random operations, compared with a model, while backends, functions and PostgreSQL are killed.

An operation is a dictionary that describes it completely, so that a failed history can be printed, and repeated
without some of its operations.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from dedup.customer_ids import CustomerId, order

from tests.attack import inputs
from tests.attack.stack import Finding, Message, Stack, bucket_put, is_failure, modified_at
from tests.model import (
    Content,
    Row,
    State,
    Write,
    after,
    content_of,
    in_order,
    orders,
    outcomes,
    regions,
    replaced,
    selected,
    sources_of,
)

Operation = dict[str, Any]

SOURCES = ("salesforce", "hubspot", "internal", "crm_4", "crm_5", "crm_6")
RESOLVE_SECONDS = 120
"""Within which the resolver must have caught up, after a restart too."""

STEPS = 60
"""Number of operations of a history."""

WAITING_FILES = 4
"""Maximum number of files whose message is not delivered yet."""

MOST = 10_000
"""Maximum size of a page."""

SHOWN = 500
"""Maximum number of records of an entity in a response."""

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
RULES = {"methods": ["rules"]}
TIMEOUT = 120

KINDS = {
    "add": 14,
    "one": 6,
    "again": 5,
    "conflict": 2,
    "refused": 3,
    "file": 9,
    "deliver": 12,
    "delete": 7,
    "erase": 5,
    "clear": 1,
    "match": 4,
    "decide": 6,
    "revoke": 3,
    "export": 4,
    "report": 2,
    "verify": 2,
    "together": 6,
}
"""The weight of each kind of operation."""


@dataclass
class Sent:
    """The expected state of an upload. `id` is None until it is known."""

    rows: list[inputs.Values]
    id: int | None = None
    body: Any = None
    key: str | None = None
    answer: Any = None
    status: str = "done"
    accepted: int = 0
    reason: str | None = None
    # Files only
    source: str | None = None
    mode: str = "add"
    rejected: int = 0
    at: float = 0.0
    object_key: str = ""
    message: Message | None = None
    delivered: bool = False
    cleared: bool = False
    changes: tuple[int, int, int, int] | None = None
    """Customers added, removed, unchanged, and new to all sources; None if unknown."""

    @property
    def is_file(self) -> bool:
        return bool(self.object_key)

    @property
    def is_snapshot_in_place(self) -> bool:
        return self.is_file and self.mode == "replace" and self.status == "done" and not self.cleared


@dataclass
class History:
    """One history, on a stack with an empty database."""

    stack: Stack
    seed: str
    states: set[State] = field(default_factory=lambda: {()})
    uploads: dict[str, Sent] = field(default_factory=dict)
    matched: bool = False
    parted: bool = False
    """Whether a decision `different` was part of the last run, or was made since."""
    decided: bool = False
    """The same for any decision."""
    steps: int = 0
    session: requests.Session = field(default_factory=requests.Session)

    # Requests

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.stack.api}/{path}", timeout=TIMEOUT, **more)

    def ask(
        self, method: str, path: str, *, expected: Sequence[int] = (200,), repeatable: bool = True, **more: Any
    ) -> tuple[requests.Response | None, bool]:
        """Sends a request, with retries while something is broken. Returns the response, and whether an earlier attempt
        may have written. The response is None if a request that is not `repeatable` may have written. Raises
        Finding."""
        uncertain = False
        for pause in PAUSES:
            answer = None
            try:
                answer = self.request(method, path, **more)
            except requests.RequestException as error:
                if not self.stack.broken:
                    raise Finding(f"{method} {path}: {error!r}") from error
            if answer is not None:
                if "Traceback" in answer.text:
                    raise Finding(f"{method} {path}: a traceback in the body")
                if answer.status_code < 500:
                    if answer.status_code not in expected and not uncertain:
                        raise Finding(f"{method} {path}: {answer.status_code} {answer.text[:500]}; {more}")
                    return answer, uncertain
                if not self.stack.broken or is_failure(answer.status_code, answer.content):
                    raise Finding(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            if answer is None or answer.status_code != 503 or "may have been written" in answer.text:
                if not repeatable:
                    return None, True
                uncertain = True
            time.sleep(pause)
        raise Finding(f"{method} {path}: not done after {len(PAUSES)} tries")

    def get(self, path: str, **query: Any) -> Any:
        answer, _ = self.ask("GET", path, params=query)
        assert answer is not None
        return answer.json()

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """All pages of the response."""
        params: Any = query
        for _page in range(10_000):
            answer, _ = self.ask("GET", path, params=params)
            assert answer is not None
            yield answer.json()
            url = answer.links.get("next", {}).get("url")
            if url is None:
                return
            # The link contains another host than that of the local gateway.
            path, params = url.partition("/api/v1/")[2], None
        raise Finding(f"GET {path}: the pages have no end")

    def walk(self, path: str, name: str | None = None, **query: Any) -> list[Any]:
        """The items on all pages of a list, or in the field `name` of all pages."""
        return [item for page in self.pages(path, **query) for item in (page if name is None else page[name])]

    # Choosing

    def choose(self, chance: random.Random) -> Operation:
        """The next operation, with its values and the fault that is injected during it."""
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        operation = self._make(kind, chance) or self._make("add", chance)
        assert operation
        if chance.random() < 0.4:
            operation["fault"] = self._fault(chance, slow=operation["op"] == "match")
        return operation

    def _fault(self, chance: random.Random, slow: bool) -> dict[str, Any]:
        kind = chance.choices(["terminate", "cut", "worker", "postgres"], [6, 8, 4, 1])[0]
        if kind == "cut":
            return {"kind": kind, "step": chance.randrange(25), "how": chance.choice(["before", "within", "after"])}
        after = round(chance.uniform(0, 2.0 if slow else 0.12), 3)
        return {"kind": kind, "after": after, "times": 1 if kind == "postgres" else chance.choice([1, 1, 1, 3])}

    def _make(self, kind: str, chance: random.Random) -> Operation | None:
        """A random operation of a kind; None if that kind is not possible now."""
        name = f"u{self.steps}"
        sent = [name for name, one in self.uploads.items() if one.id is not None]
        keyed = [name for name, one in self.uploads.items() if one.key and one.id is not None]
        match kind:
            case "add":
                records = [inputs.values(chance, self.stack.sources) for _ in range(chance.choice([0, 1, 2, 5, 12]))]
                return {"op": kind, "name": name, "records": records, "keyed": chance.random() < 0.6}
            case "one":
                records = [inputs.values(chance, self.stack.sources)]
                return {"op": kind, "name": name, "records": records, "keyed": chance.random() < 0.5}
            case "again" | "conflict" if keyed:
                return {"op": kind, "of": chance.choice(keyed)}
            case "refused":
                records = [inputs.values(chance, self.stack.sources) for _ in range(3)]
                return {"op": kind, "records": records, "fault_of": chance.choice(inputs.BAD)}
            case "file" if sum(one.is_file and not one.delivered for one in self.uploads.values()) < WAITING_FILES:
                return self._make_file(name, chance)
            case "deliver" if files := [name for name, one in self.uploads.items() if one.is_file]:
                fresh = [name for name in files if not self.uploads[name].delivered]
                of = chance.choice(fresh if fresh and chance.random() < 0.8 else files)
                return {"op": kind, "of": of, "times": chance.choice([1, 1, 2, 3]), "at_once": chance.random() < 0.3}
            case "delete" if sent:
                return {"op": kind, "of": chance.choice(sent)}
            case "erase":
                return {"op": kind, "customer": chance.choice(inputs.IDS)}
            case "match":
                return {"op": kind, "settings": RULES if chance.random() < 0.9 else {}}
            case "decide":
                verdict = chance.choice(["same", "different"])
                return {"op": kind, "picks": [chance.randrange(1000) for _ in range(chance.choice([2, 2, 2, 3]))]} | {
                    "verdict": verdict
                }
            case "revoke":
                return {"op": kind, "pick": chance.randrange(1000)}
            case "export":
                question = {
                    "in": chance.sample(self.stack.sources, chance.choice([0, 0, 1, 2])),
                    "not_in": chance.sample(self.stack.sources, chance.choice([0, 1])),
                    "by": chance.choice(["customer", "entity"]) if self.matched else "customer",
                    "format": chance.choice(["ndjson", "ndjson", "csv"]),
                }
                return {"op": kind, "question": question}
            case "report":
                return {"op": kind, "keep": chance.random() < 0.5}
            case "clear" | "verify":
                return {"op": kind}
            case "together":
                kinds = chance.choices(["add", "one", "again", "delete", "erase", "clear", "deliver"], k=3)
                made = [self._make(some, chance) for some in kinds]
                writes = [one | {"name": f"{name}_{n}"} for n, one in enumerate(made) if one]
                if delivered := [one for one in writes if one["op"] == "deliver"]:
                    # The result of a file depends on the results of others: deliver only one at a time.
                    others = [one for one in writes if one["op"] not in ("deliver", "clear", "delete")]
                    deletions = [one for one in writes if one.get("of") == delivered[0]["of"] and one["op"] == "delete"]
                    writes = [delivered[0], *deletions, *others]
                return {"op": kind, "writes": writes} if len(writes) > 1 else None
        return None

    def _make_file(self, name: str, chance: random.Random) -> Operation:
        mode = chance.choice(["add", "replace"])
        source = chance.choice(self.stack.sources) if mode == "replace" or chance.random() < 0.6 else None
        sources = [source] if source else self.stack.sources
        return {
            "op": "file",
            "name": name,
            "source": source,
            "mode": mode,
            "rows": [inputs.values(chance, sources) for _ in range(chance.choice([0, 1, 3, 10, 25]))],
            "bad": [chance.choice(inputs.BAD) for _ in range(chance.choice([0, 0, 1, 3]))],
            "format": chance.choice(inputs.FORMATS),
            "compression": chance.choice([None, None, "gzip", "zstd"]),
            "by": chance.choice(["url", "url", "bucket"]),
        }

    # Doing

    def do(self, operation: Operation) -> None:
        """Executes an operation, and compares all responses with the model. An operation on an upload that is missing,
        since the history is repeated without it, does nothing. Raises Finding."""
        self.steps += 1
        of = [operation, *operation.get("writes", ())]
        if any("of" in one and (one["of"] not in self.uploads or not self._can(one)) for one in of):
            return
        with self.stack.breaking(operation.get("fault")):
            getattr(self, f"_do_{operation['op']}", self._do_write)(operation)
        self.check(deep=bool(operation.get("fault")) or self.steps % 5 == 0)

    def _can(self, operation: Operation) -> bool:
        one = self.uploads[operation["of"]]
        return operation["op"] == "deliver" or one.id is not None

    def _do_write(self, operation: Operation) -> None:
        write = self._write(operation)
        self.states = outcomes(self.states, write, write.ask())

    def _do_together(self, operation: Operation) -> None:
        before = {name for name, one in self.uploads.items() if one.status == "done"}
        writes = [self._write(one) for one in operation["writes"]]
        with ThreadPoolExecutor(len(writes)) as clients:
            took_place = list(clients.map(lambda write: write.ask(), writes))
        done = [write for write, place in zip(writes, took_place, strict=True) if place is not False]
        unknown = [write for write, place in zip(writes, took_place, strict=True) if place is None]
        _, self.states = orders(self.states, done, unknown)
        # The order of the writes is unknown, except for what the statuses of uploads show.
        loaded_uploads = {upload["id"]: upload["status"] for upload in self._accounts()}
        deleted = {one["of"] for one in operation["writes"] if one["op"] == "delete"}
        cleared = any(one["op"] == "clear" for one in operation["writes"])
        for name, one in self.uploads.items():
            one.changes = None
            if name in deleted and loaded_uploads.get(one.id or 0) == "deleted":
                one.status = "deleted"
            if cleared and one.status == "done":
                one.cleared |= name in before or loaded_uploads.get(one.id or 0) == "deleted"
                if one.cleared:
                    self.states = {s for s in self.states if not any(row.upload == name for row in s)}

    def _write(self, operation: Operation) -> Write:
        write: Write = getattr(self, f"_write_{operation['op']}")(operation)
        return write

    def _rows(self, name: str) -> list[Row]:
        return [Row(name, *record) for record in self.uploads[name].rows]

    def _write_add(self, operation: Operation) -> Write:
        name, records = operation["name"], [tuple(record) for record in operation["records"]]
        key = f"{self.seed}-{name}" if operation["keyed"] else None
        many = operation["op"] == "add"
        content: Any = {"customers": [inputs.body(record) for record in records]} if many else inputs.body(records[0])
        one = Sent(records, body=content, key=key, accepted=len(records))
        self.uploads[name] = one
        return Write(lambda: self._send(one), lambda state: after(state, lambda row: True, self._rows(name)))

    _write_one = _write_add

    def _send(self, one: Sent) -> bool | None:
        path = "customers/bulk" if "customers" in one.body else "customers"
        headers = {"Idempotency-Key": one.key} if one.key else {}
        answer, _ = self.ask("POST", path, expected=[201], repeatable=bool(one.key), json=one.body, headers=headers)
        if answer is None:
            return None
        told = answer.json()
        if one.answer is None:
            one.answer = told
        elif told != one.answer:
            raise Finding(f"A repeat was answered otherwise: {told}, and before {one.answer}")
        if "details" in told:
            one.id = told["details"]["upload_id"]
        elif told["customer_id"] != one.body["customer_id"]:
            raise Finding(f"Another customer was stored: {told}")
        return True

    def _write_again(self, operation: Operation) -> Write:
        one = self.uploads[operation["of"]]

        def ask() -> bool:
            self._send(one)
            return False

        return Write(ask, lambda state: state)

    def _do_conflict(self, operation: Operation) -> None:
        one = self.uploads[operation["of"]]
        content = {"customers": [inputs.body(("internal", 77, "Other", "other@example.com"))]}
        self.ask("POST", "customers/bulk", expected=[422], json=content, headers={"Idempotency-Key": str(one.key)})

    def _do_refused(self, operation: Operation) -> None:
        content = [inputs.body(record) for record in operation["records"]]
        content[-1] |= operation["fault_of"]
        self.ask("POST", "customers/bulk", expected=[422], json={"customers": content})

    def _do_file(self, operation: Operation) -> None:
        name, source, mode = operation["name"], operation["source"], operation["mode"]
        rows, bad = [tuple(row) for row in operation["rows"]], operation["bad"]
        data = inputs.file(rows, bad, operation["format"], operation["compression"], named=source is None)
        one = Sent(rows, source=source, mode=mode, rejected=len(bad), status="waiting")
        if operation["by"] == "url":
            wish = {"filename": f"{name}.data", "mode": mode} | ({"source": source} if source else {})
            path = "uploads/snapshots" if mode == "replace" else "uploads"
            answer, _ = self.ask("POST", path, expected=[201], json=wish)
            assert answer is not None
            told = answer.json()
            one.id = told["id"]
            requests.put(told["url"], data=data, timeout=TIMEOUT).raise_for_status()
            one.object_key = next(a for a in self.get("uploads", limit=1000) if a["id"] == one.id)["object_key"]
        else:
            folders = [folder for folder in (source, "snapshot" if mode == "replace" else None) if folder]
            one.object_key = "/".join(["incoming", *folders, f"{self.seed}-{name} +&ü.data"])
            bucket_put(self.stack, one.object_key, data)
        one.message = self.stack.message(lambda message: message.object_key == one.object_key)
        one.at = modified_at(self.stack, one.object_key)
        self.uploads[name] = one

    def _write_deliver(self, operation: Operation) -> Write:
        name = operation["of"]
        one = self.uploads[name]

        def ask() -> bool | None:
            before = one.status
            self._deliver(one.message, operation["times"], operation["at_once"])
            theirs = [upload for upload in self._accounts() if upload["object_key"] == one.object_key]
            if len(theirs) > 1:
                raise Finding(f"One file became {len(theirs)} uploads: {theirs}")
            upload = theirs[0] if theirs else None
            if upload is None:
                raise Finding(f"Nothing is known of {one.object_key}")
            one.id, one.delivered = upload["id"], True
            if before not in ("waiting", "deleted" if operation.get("name") else "waiting"):
                return False
            one.status, one.accepted, one.reason = upload["status"], upload["accepted"], upload["reason"]
            if one.status not in ("done", "failed", "deleted"):
                raise Finding(f"A file that was delivered did not end: {upload}")
            if one.status == "deleted" and operation.get("name"):
                # Deleted by a concurrent operation: it is unknown whether it was loaded before.
                return None
            return one.status == "done"

        def change(state: State) -> State:
            return self._loaded(name, state)

        if operation.get("name"):  # concurrent with others: the result depends on their order
            return Write(ask, change)

        def ask_alone() -> bool | None:
            before = one.status
            [*_, state] = self.states
            expected = self._loaded(name, state)
            took_place = ask()
            if before == "waiting":
                self._expect_account(name, state, expected)
            return took_place

        return Write(ask_alone, change)

    def _deliver(self, message: Message | None, times: int, at_once: bool) -> None:
        """Delivers a message `times` times, and then again until the function is done with it."""
        assert message is not None
        done = False
        if at_once:
            with ThreadPoolExecutor(times) as deliveries:
                done = any(list(deliveries.map(lambda _: self.stack.deliver(message), range(times))))
        else:
            for _ in range(times):
                done = self.stack.deliver(message)
        for _ in range(6):
            if done:
                return
            # The queue's visibility timeout is longer than any lease.
            self.stack.settle()
            done = self.stack.deliver(message)
        raise Finding(f"{message.function} is not done with a message after six more deliveries")

    def _newer(self, one: Sent) -> list[Sent]:
        return [other for other in self.uploads.values() if other.is_file and other.at > one.at and other is not one]

    def _loaded(self, name: str, state: State) -> State:
        """The state after the file was loaded."""
        one = self.uploads[name]
        added = self._accepted(name)
        if not added:
            return state
        if one.mode == "replace" and one.source:
            stay = {n for n, other in self.uploads.items() if other in self._newer(one) and other.status == "done"}
            return replaced(state, one.source, added, stay)
        return after(state, lambda row: True, added)

    def _accepted(self, name: str) -> list[Row]:
        """The rows of a file that no newer snapshot makes outdated."""
        overtaken = {other.source for other in self._newer(self.uploads[name]) if other.is_snapshot_in_place}
        return [row for row in self._rows(name) if row.source not in overtaken]

    def _expect_account(self, name: str, before: State, state: State) -> None:
        """Compares the status and the counts of a file that was just loaded with the model. Raises Finding."""
        one = self.uploads[name]
        accepted = self._accepted(name)
        expected = "done" if accepted else "failed"
        if one.status != expected:
            raise Finding(f"The file {name} is {one.status} ({one.reason}), and the model has {expected}")
        if not accepted or len(self.states) > 1:
            return
        was = sources_of((row.source, row.customer) for row in before)
        has = sources_of((row.source, row.customer) for row in accepted)
        is_now = sources_of((row.source, row.customer) for row in state)
        came = sum(not sources <= was.get(customer, frozenset()) for customer, sources in has.items())
        went = 0
        if one.mode == "replace":
            went = sum(
                one.source in sources and one.source not in is_now.get(customer, ())
                for customer, sources in was.items()
            )
        one.changes = came, went, len(has) - came, len(has.keys() - was.keys())
        if one.accepted != len(accepted):
            raise Finding(f"The file {name} has {one.accepted} accepted rows, and the model {len(accepted)}")

    def _write_delete(self, operation: Operation) -> Write:
        name = operation["of"]
        one = self.uploads[name]

        def ask() -> bool:
            answer, uncertain = self.ask("DELETE", f"uploads/{one.id}", expected=[200, 202, 409])
            assert answer is not None
            if answer.status_code == 202:
                self._deliver(self.stack.message(lambda m: m.body.get("delete_upload") == one.id), 1, at_once=False)
                one.status = "deleted"
                return True
            if answer.status_code == 409:
                # Another operation loads or deletes it at the same time, or what it replaced cannot be restored.
                return False
            if not uncertain and len(self.states) == 1 and not operation.get("name"):
                [state] = self.states
                there = sum(row.upload == name for row in state)
                if answer.json()["details"]["deleted_count"] != there:
                    raise Finding(f"{answer.json()} of {there} records of {name}")
            one.status = "deleted"
            return True

        return Write(ask, lambda state: after(state, lambda row: row.upload != name))

    def _write_erase(self, operation: Operation) -> Write:
        customer = operation["customer"]

        def ask() -> bool:
            # 202: rows are removed from files of rejected rows later.
            answer, uncertain = self.ask(
                "DELETE", f"customers/{quote(str(customer), safe='')}", expected=[200, 202, 404]
            )
            assert answer is not None
            if not uncertain and len(self.states) == 1 and not operation.get("name"):
                [state] = self.states
                records = sum(row.customer == customer for row in state)
                told = answer.json()["details"]["records"] if answer.status_code != 404 else 0
                if told != records:
                    raise Finding(f"{told} records of customer {customer} were erased, of {records}")
            return True

        return Write(ask, lambda state: after(state, lambda row: row.customer != customer))

    def _write_clear(self, operation: Operation) -> Write:
        def ask() -> bool | None:
            answer, uncertain = self.ask("DELETE", "customers", repeatable=True)
            assert answer is not None
            if not uncertain and len(self.states) == 1 and not operation.get("name"):
                [state] = self.states
                if answer.json()["details"]["deleted_count"] != len(state):
                    raise Finding(f"{answer.json()} of {len(state)} records")
            for one in self.uploads.values():
                if one.status == "done" and not operation.get("name"):
                    one.cleared = True
            return True

        return Write(ask, lambda state: ())

    def _do_match(self, operation: Operation) -> None:
        headers = {"Idempotency-Key": f"{self.seed}-run-{self.steps}"}
        wish = {"settings": operation["settings"]}
        answer, _ = self.ask("POST", "matching/runs", expected=[202], json=wish, headers=headers)
        assert answer is not None
        run = answer.json()["id"]
        self._deliver(self.stack.message(lambda message: message.body.get("run") == run), 1, at_once=False)
        upload = self.get(f"matching/runs/{run}")
        if upload["status"] == "failed":
            # After three attempts it fails.
            if not (upload["reason"] == "There are no records" and all(not state for state in self.states)) and not (
                self.stack.broken and "nterrupted" in upload["reason"]
            ):
                raise Finding(f"A run failed: {upload['reason']}")
        elif upload["status"] != "done" or not upload["active"]:
            raise Finding(f"The run is not active after its delivery: {upload['status']}")
        else:
            self.matched = True
            self.parted = self.decided = False
            self._note_decisions()

    def _note_decisions(self) -> list[Any]:
        """The decisions that were not revoked. Notes whether there are any, since later checks depend on it."""
        standing = [decision for decision in self._decisions() if not decision["revoked_at"]]
        self.parted |= any(decision["verdict"] == "different" for decision in standing)
        self.decided |= bool(standing)
        return standing

    def _decisions(self) -> list[Any]:
        return self.walk("matching/decisions", limit=1000)

    def _do_decide(self, operation: Operation) -> None:
        records = sorted(record["id"] for record in self.walk("customers", limit=MOST))
        ids = sorted({records[pick % len(records)] for pick in operation["picks"]}) if records else []
        if len(ids) > 1:
            wish = {"record_ids": ids, "verdict": operation["verdict"], "note": "as the customer said"}
            self.ask("POST", "matching/decisions", expected=[201], repeatable=False, json=wish)
            self.parted |= operation["verdict"] == "different"
            self.decided = True

    def _do_revoke(self, operation: Operation) -> None:
        standing = self._note_decisions()
        if standing:
            decision = standing[operation["pick"] % len(standing)]["id"]
            self.ask("DELETE", f"matching/decisions/{decision}")

    def _do_export(self, operation: Operation) -> None:
        question = operation["question"]
        headers = {"Idempotency-Key": f"{self.seed}-export-{self.steps}"}
        if question["by"] == "entity" and not self.matched:
            return
        answer, _ = self.ask("POST", "exports", expected=[202], json=question, headers=headers)
        assert answer is not None
        export = answer.json()["id"]
        self._deliver(self.stack.message(lambda message: message.body.get("export") == export), 1, at_once=False)
        upload = self.get(f"exports/{export}")
        if upload["status"] != "done":
            if not self.stack.broken:
                raise Finding(f"An export is {upload['status']}: {upload['reason']}")
            return
        if question["format"] == "ndjson":
            file = requests.get(upload["url"], timeout=TIMEOUT).content
            self._expect_export(question, [json.loads(line) for line in file.splitlines()])

    def _expect_export(self, question: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> None:
        expected: Counter[Any]
        found: Counter[Any]
        content = self._content()
        named = {"within": question["in"], "without": question["not_in"]}
        if question["by"] == "customer":
            of = sources_of((source, customer) for source, customer, *_ in content)
            chosen = set(selected(of, **named))
            expected = Counter(
                (customer, tuple(sorted(of[customer])), source, name, email)
                for source, customer, name, email in content
                if customer in chosen
            )
            found = Counter(
                (line["customer_id"], tuple(line["sources"]), line["source"], line["name"], line["email"])
                for line in lines
            )
        else:
            members = self._members()
            records = {record["id"]: record for record in self.walk("customers", limit=MOST)}
            of = sources_of((records[record]["source"], entity) for record, entity in members.items())
            chosen = set(selected(of, **named))
            expected = Counter(
                (entity, tuple(sorted(of[entity])), record) for record, entity in members.items() if entity in chosen
            )
            found = Counter((line["entity_id"], tuple(line["sources"]), line["record_id"]) for line in lines)
        if found != expected:
            raise Finding(f"The export {question} has {found - expected} and lacks {expected - found}")

    def _do_report(self, operation: Operation) -> None:
        if operation["keep"]:
            self.ask("POST", "deduplication/reports", expected=[201])
        for form in ("csv", "html"):
            self.ask("GET", "deduplication/report", params={"format": form})

    def _do_verify(self, operation: Operation) -> None:
        self._verify()

    # Comparing

    def _content(self) -> Content:
        return content_of(next(iter(self.states)))

    def _accounts(self) -> list[Any]:
        return self.walk("uploads", limit=1000)

    def _verify(self) -> None:
        found = self.stack.call("Verify", {})
        if not found["agreed"]:
            raise Finding(f"verify does not agree: {found}")

    def _members(self) -> dict[int, int]:
        """The entity of each record in the active run."""
        [[run]] = self.stack.admin("SELECT active_run FROM match_state")
        return dict(self.stack.admin(f"SELECT record_id, entity_id FROM matching.member_{run}"))

    def check(self, deep: bool) -> None:
        """Compares the responses of the API with the model; fewer of them if not `deep`. Raises Finding."""
        chance = random.Random(f"{self.seed}-{self.steps}")
        if deep:
            self._verify()
        records = self.walk("customers", limit=chance.choice([min(MOST, len(self._content()) // 4 + 1), MOST]))
        seen = in_order((r["source"], r["customer_id"], r["name"], r["email"]) for r in records)
        explained = {state for state in self.states if content_of(state) == seen}
        if not explained:
            [wanted, *_] = [Counter(content_of(state)) for state in self.states]
            found = Counter(seen)
            raise Finding(
                f"Of {len(self.states)} states none explains the records; beside the first there are "
                f"{found - wanted}, and there lack {wanted - found}"
            )
        self.states = explained
        of = sources_of((source, customer) for source, customer, *_ in seen)
        self._check_counts("customer", of, len(seen), chance)
        self._check_lists(seen, of, chance)
        self._check_accounts()
        if self.matched:
            self._check_entities(records, chance)
        elif deep:
            self.ask("GET", "deduplication/analyze", expected=[409], params={"by": "entity"})

    def _same(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            raise Finding(f"{what}: {str(found)[:1500]}, and the model has {str(expected)[:1500]}")

    def _check_counts(self, by: str, of: dict[CustomerId, frozenset[str]], records: int, chance: random.Random) -> None:
        limit = chance.choice([min(MOST, len(of) // 3 + 1), 1000, MOST])
        first = None
        ids: list[CustomerId] = []
        for page in self.pages("deduplication/analyze", by=by, limit=limit):
            first = first or page
            ids += page["unique_customer_ids"]
        assert first
        self._same(f"analyze by {by}", (first["total_records"], first["unique_customers"]), (records, len(of)))
        self._same(f"analyze by {by}, duplicates", first["duplicates_found"], records - len(of))
        self._same(f"analyze by {by}, ids", ids, sorted(of, key=order))
        found = self.walk("deduplication/regions", by=by, limit=limit)
        self._same(
            f"regions by {by}", frozenset((frozenset(r["sources"]), r["count"]) for r in found), regions(of.values())
        )
        self._same(f"regions by {by}, order", [r["count"] for r in found], sorted(r["count"] for r in found)[::-1])
        lists: dict[str, list[CustomerId]] = {}
        for page in self.pages("deduplication/compare-sources", by=by, limit=limit):
            for name, value in page.items():
                if isinstance(value, list):
                    lists.setdefault(name, []).extend(value)
                elif name.endswith("_count"):
                    lists.setdefault(name, [value])
        every = self.stack.sources
        expected: dict[str, list[CustomerId]] = {"in_all_sources": selected(of, within=every)}
        expected |= {f"only_in_{source}": selected(of, exactly=[source]) for source in every}
        expected |= {f"{name}_count": [len(value)] for name, value in list(expected.items())}
        expected |= {f"{source}_count": [len(selected(of, within=[source]))] for source in every}
        self._same(f"compare-sources by {by}", lists, expected)
        for _ in range(2):
            within, without, exactly = (chance.sample(every, chance.choice([0, 0, 1, 2])) for _ in range(3))
            query = {"in": ",".join(within), "not_in": ",".join(without), "region": ",".join(exactly)}
            pages = list(self.pages("deduplication/customers", by=by, limit=limit, **query))
            wanted = selected(of, within, without, exactly)
            self._same(f"customers {query} by {by}", [i for page in pages for i in page["customer_ids"]], wanted)
            self._same(f"customers {query} by {by}, count", {page["count"] for page in pages}, {len(wanted)})

    def _check_lists(self, seen: Content, of: dict[CustomerId, frozenset[str]], chance: random.Random) -> None:
        source = chance.choice(self.stack.sources)
        found = in_order(
            (r["source"], r["customer_id"], r["name"], r["email"])
            for r in self.walk(f"customers/source/{source}", limit=chance.choice([min(MOST, len(seen) // 3 + 1), MOST]))
        )
        self._same(f"records of {source}", found, tuple(one for one in seen if one[0] == source))
        customer = chance.choice(inputs.IDS)
        if customer not in of:
            self.ask("GET", f"customers/{quote(str(customer), safe='')}", expected=[404])
            return
        limit = chance.choice([min(MOST, len(seen) // 3 + 1), MOST])
        pages = list(self.pages(f"customers/{quote(str(customer), safe='')}", limit=limit))
        found = in_order(
            (r["source"], r["customer_id"], r["name"], r["email"]) for page in pages for r in page["records"]
        )
        self._same(f"customer {customer}", found, tuple(one for one in seen if one[1] == customer))
        self._same(f"sources of customer {customer}", set(pages[0]["sources"]), of[customer])

    def _check_accounts(self) -> None:
        loaded_uploads = {upload["id"]: upload for upload in self._accounts()}
        for name, one in self.uploads.items():
            if one.id is None:
                continue
            upload = loaded_uploads.get(one.id)
            if upload is None:
                raise Finding(f"Nothing is known of {name}, upload {one.id}")
            status = "deleted" if one.status == "done" and one.cleared else one.status
            self._same(f"status of {name}", upload["status"], status)
            if one.status == "done":
                self._same(f"accepted of {name}", upload["accepted"], one.accepted)
                if one.is_file:
                    self._same(f"rejected of {name}", upload["rejected"], one.rejected)
                if one.changes:
                    told = tuple((upload["customers"] or {}).values())
                    self._same(f"customers of {name}", told, one.changes)

    def _check_entities(self, records: Sequence[Mapping[str, Any]], chance: random.Random) -> None:
        deadline = time.monotonic() + RESOLVE_SECONDS
        while self.get("matching/status")["unresolved_records"]:
            if time.monotonic() > deadline:
                raise Finding(f"There are records that were not resolved in {RESOLVE_SECONDS} seconds")
            self.stack.call("Resolve", {})
        members = self._members()
        by_id = {record["id"]: record for record in records}
        self._same("records that are members", sorted(members), sorted(by_id))
        of = sources_of((by_id[record]["source"], entity) for record, entity in members.items())
        self._check_counts("entity", of, len(records), chance)
        theirs: dict[int, list[Mapping[str, Any]]] = {}
        for record, entity in sorted(members.items()):
            theirs.setdefault(entity, []).append(by_id[record])
        listed = self.walk("entities", limit=500)
        self._same(
            "entities", [(e["id"], e["records"]) for e in listed], [(e, len(rs)) for e, rs in sorted(theirs.items())]
        )
        for one in listed:
            whose = theirs[one["id"]] if one["records"] <= SHOWN else []
            if whose:
                told = one["customer_ids"], one["sources"]
                customers, sources = {r["customer_id"] for r in whose}, {r["source"] for r in whose}
                self._same(f"entity {one['id']} in the list", told, (sorted(customers, key=order), sorted(sources)))
        small = sorted(entity for entity, of_one in theirs.items() if len(of_one) <= SHOWN)
        for entity in chance.sample(small, min(2, len(small))):
            whole = self.get(f"entities/{entity}")
            self._same(
                f"records of entity {entity}", [r["id"] for r in whole["records"]], [r["id"] for r in theirs[entity]]
            )
        self._check_decisions(members, by_id)

    def _check_decisions(self, members: Mapping[int, int], by_id: Mapping[int, Mapping[str, Any]]) -> None:
        standing = self._note_decisions()
        verdicts: dict[tuple[int, int], str] = {}
        for decision in sorted(standing, key=lambda decision: decision["id"]):
            ids = [record for record in sorted(decision["record_ids"]) if record in by_id]
            verdicts |= {(a, b): decision["verdict"] for a in ids for b in ids if a < b}
        for (a, b), verdict in verdicts.items():
            if verdict == "different" and members[a] == members[b]:
                raise Finding(f"Records {a} and {b} are different people, and both are of entity {members[a]}")
        for (a, b), verdict in verdicts.items():
            if verdict == "same" and members[a] != members[b] and not self.parted:
                raise Finding(f"Records {a} and {b} are one person, and of entities {members[a]} and {members[b]}")
        if self.decided:
            # Records joined by a decision may contradict other records of their customer, which then stay separate.
            return
        first: dict[tuple[str, int], int] = {}
        for record, entity in sorted(members.items()):
            whose = by_id[record]["source"], by_id[record]["customer_id"]
            if first.setdefault(whose, entity) != entity:
                raise Finding(f"Records of {whose} are of entities {first[whose]} and {entity}")


def run(
    stack: Stack, seed: str, operations: Sequence[Operation] | None, until: float, most: int = STEPS
) -> list[Operation]:
    """Runs a history from a seed with at most `most` operations, or one with the given operations, until the time
    `until`. Returns its operations. Raises Failed."""
    stack.empty()
    history, chance, done = History(stack, seed), random.Random(seed), list[Operation]()
    for step in range(most if operations is None else len(operations)):
        if operations is None and time.monotonic() > until:
            break
        operation = history.choose(chance) if operations is None else operations[step]
        done.append(json.loads(json.dumps(operation)))
        try:
            history.do(done[-1])
        except Finding as finding:
            raise Failed(str(finding), done) from finding
        except Exception as error:
            raise Failed(repr(error), done) from error
    return done


class Failed(Finding):
    """A history that failed, with its operations up to the failure."""

    def __init__(self, reason: str, operations: list[Operation]) -> None:
        super().__init__(reason)
        self.operations = operations


def shrunk(stack: Stack, seed: str, failed: Failed, until: float) -> Failed:
    """The shortest history found until the time `until` that still fails, with fewer operations and faults."""

    def fails(operations: list[Operation]) -> Failed | None:
        try:
            run(stack, seed, operations, until)
        except Failed as again:
            return again
        return None

    def tries(operations: list[Operation]) -> Iterator[list[Operation]]:
        size = len(operations) // 2
        while size:
            for start in range(0, len(operations), size):
                yield operations[:start] + operations[start + size :]
            size //= 2
        for place, operation in enumerate(operations):
            if "fault" in operation:
                calm = {name: value for name, value in operation.items() if name != "fault"}
                yield [*operations[:place], calm, *operations[place + 1 :]]

    shorter: Failed | None = failed
    while shorter:
        best = shorter
        shorter = None
        for operations in tries(best.operations):
            if time.monotonic() > until:
                return best
            if shorter := fails(operations):
                break
    return best


def sources_for(seed: str) -> tuple[str, ...]:
    """Three to six sources, depending on the seed."""
    return SOURCES[: random.Random(seed).choice([3, 3, 4, 6])]


SHRINK_SECONDS = 120
"""Time limit for the search for a shorter history."""


def campaign(folder: Path, seed: str, until: float, most: int) -> str:
    """Runs histories until the time `until`, or for `most` operations in total. Returns a summary. Raises Finding, with
    the shortest history that fails."""
    count = steps = 0
    with Stack(folder, sources_for(seed)) as stack:
        while (time.monotonic() < until and steps < most) or not count:
            name = f"{seed}-{count}"
            try:
                steps += len(run(stack, name, None, until, min(STEPS, most - steps)))
            except Failed as failed:
                kept = shrunk(stack, f"{seed}-replay", failed, time.monotonic() + SHRINK_SECONDS)
                lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in kept.operations)
                raise Finding(
                    f"history {count}, step {len(failed.operations)}: {failed}\n"
                    f"With {len(kept.operations)} operations: {kept}\nREPLAY (a file with):\n[{lines}]"
                ) from failed
            count += 1
    return f"{count} histories of {steps} steps"
