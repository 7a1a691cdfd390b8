"""What is read, over HTTP and at the handler."""

import itertools
import json
from collections.abc import Iterator

from dedup.api.pagination import encode_cursor

from benchmarks import stacks
from benchmarks.data import SOURCES, Data
from benchmarks.handlers import api_event, measure_handler
from benchmarks.measure import Figure, Key, Stack, peak_memory, sample
from benchmarks.paths import ANALYZE, COMPARE, COUNT, RECORDS, REGIONS, SELECT
from benchmarks.stacks import Service
from local.postgres import Settings

ORM_RECORDS = 1_000_000
"""The reference reads its table as objects up to here, in 1.7 GB and ten seconds; ten times that is more than most
machines have."""

WALK_PAGE = 10_000
RECORDS_PAGE = "page of records"
PAGE_OF = "page of ids in "
IN_TURNS = ", in turns"
OF_A_TENTH = ", of a tenth"
TURNS = 200


def agree(data: Data, ours: Service, reference: Service) -> None:
    """Raises AssertionError unless both say what the generator knows: what is timed must be right first."""
    assert regions_of(ours) == {tuple(sorted(region)): count for region, count in data.regions().items()}
    services = [ours, reference] if data.size <= ORM_RECORDS else [ours]
    for service in services:
        analysis = json.loads(service.client.get(ANALYZE))
        assert (analysis["total_records"], analysis["unique_customers"]) == (data.size, data.customers), analysis


def regions_of(ours: Service) -> dict[tuple[str, ...], int]:
    """The customers of each region, as ours says."""
    return {tuple(sorted(region["sources"])): region["count"] for region in json.loads(ours.client.get(REGIONS))}


def page_size(data: Data) -> int:
    """How many items a page has: the default, or fewer where a region has less than two pages of those."""
    return 1000 if data.size >= 100_000 else 100


def reads_of_reference(data: Data, service: Service) -> Iterator[tuple[Key, Figure]]:
    """The reference's reads over HTTP."""
    if data.size <= ORM_RECORDS:
        analysis = _read("analyze", data, "reference", service, ANALYZE, at_least=3)
        yield analysis
        # It has no pages: this answer is how a client gets all ids.
        yield analysis[0]._replace(operation="all unique ids"), analysis[1]
        yield _read("compare", data, "reference", service, COMPARE, at_least=3)
    yield _read("count(DISTINCT)", data, "reference", service, COUNT)
    page = page_size(data)
    yield _read(f"{RECORDS_PAGE}: first", data, "reference", service, f"{RECORDS}?limit={page}", page)
    last = f"{RECORDS}?limit={page}&skip={data.size - page}"
    yield _read(f"{RECORDS_PAGE}: last", data, "reference", service, last, page)


def reads_of_ours(data: Data, service: Service) -> Iterator[tuple[Key, Figure]]:
    """Our reads over HTTP."""
    page = page_size(data)
    yield _read("analyze", data, "ours", service, ANALYZE)
    yield _read("compare", data, "ours", service, COMPARE)
    yield _read("regions", data, "ours", service, REGIONS)
    yield _read("customers in 2, not in 1", data, "ours", service, f"{SELECT}?in=salesforce,hubspot&not_in=internal")
    yield _walk(data, service)
    cursor = encode_cursor({"id": data.size - page}, "records")
    yield _read(f"{RECORDS_PAGE}: first", data, "ours", service, f"{RECORDS}?limit={page}", page)
    yield _read(f"{RECORDS_PAGE}: last", data, "ours", service, f"{RECORDS}?limit={page}&cursor={cursor}", page)
    everywhere = [(region, sorted(set(SOURCES) - set(region))) for region in data.regions()]
    for within, without in [*everywhere, (SOURCES[:1], [])]:
        path = f"{SELECT}?in={','.join(within)}&not_in={','.join(without)}&limit={page}"
        question = f"customers in {sorted(within)} not in {without} region []"
        cursor = encode_cursor({"ids": data.last_position(page, within, without)}, question)
        name = f"{PAGE_OF}{' and '.join(within)}{', in no other' if without else ''}"
        yield _read(f"{name}: first", data, "ours", service, path, page)
        yield _read(f"{name}: last", data, "ours", service, f"{path}&cursor={cursor}", page)


def in_turns(data: Data, all_of_it: Service, tenth: Service) -> Iterator[tuple[Key, Figure]]:
    """What a question costs with all records and with a tenth of them, over HTTP and in turns: what else the machine
    does meanwhile is in both."""
    for operation, path in (("analyze", ANALYZE), ("compare", COMPARE)):
        services = {f"{operation}{IN_TURNS}": all_of_it, f"{operation}{IN_TURNS}{OF_A_TENTH}": tenth}
        times: dict[str, list[float]] = {name: [] for name in services}
        for _ in range(TURNS + 1):
            for name, service in services.items():
                times[name] += sample(service.client.get, [path], warm_up=False)
        for name, taken in times.items():
            yield Key(name, data.style, "http", "ours"), Figure.of(taken[1:])


def handlers(data: Data, ours: Settings, reference: Settings) -> Iterator[tuple[Key, Figure]]:
    """The reads of both at the handler: no HTTP, no gateway."""
    page = {"limit": str(page_size(data))}
    for operation, function, query in (
        ("analyze", "analyze", {}),
        ("analyze, one id", "analyze", {"limit": "1"}),
        ("compare", "compare", {}),
        ("compare, one id each", "compare", {"limit": "1"}),
        ("regions", "regions", {}),
        ("customers in 2, not in 1", "select_customers", {"in": "salesforce,hubspot", "not_in": "internal"}),
        (f"{RECORDS_PAGE}: first", "list_customers", page),
    ):
        found = measure_handler(function, stacks.our_environment(ours), [api_event(function, query)])
        yield Key(operation, data.style, "handler", "ours"), Figure.of(found.times_ms, found.peak_mb)
    environment = stacks.reference_environment(reference)
    names = {"count(DISTINCT)": "count_distinct"}
    if data.size <= ORM_RECORDS:
        names |= {"analyze": "analyze", "compare": "compare"}
    for operation, function in names.items():
        found = measure_handler(f"reference:{function}", environment, [{}], at_least=2)
        yield Key(operation, data.style, "handler", "reference"), Figure.of(found.times_ms, found.peak_mb)


def _read(
    operation: str, data: Data, stack: Stack, service: Service, path: str, items: int = 0, at_least: int = 10
) -> tuple[Key, Figure]:
    """One path, again and again. Raises AssertionError when its page has not so many `items`."""
    if items:
        answer = json.loads(service.client.get(path))
        assert len(answer if isinstance(answer, list) else answer["customer_ids"]) == items, path
    with peak_memory(service.processes) as peak:
        times = sample(service.client.get, itertools.repeat(path), at_least=at_least)
    return Key(operation, data.style, "http", stack), Figure.of(times, peak.mb)


def _walk(data: Data, service: Service) -> tuple[Key, Figure]:
    def walk(start: str) -> None:
        path: str | None = start
        while path:
            _, path = service.client.page(path)

    with peak_memory(service.processes) as peak:
        times = sample(walk, itertools.repeat(f"{ANALYZE}?limit={WALK_PAGE}"), at_least=3)
    return Key("all unique ids", data.style, "http", "ours"), Figure.of(times, peak.mb)
