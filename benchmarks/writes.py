"""What is written, by one client and by many, and what readers notice of it."""

import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

from benchmarks import stacks
from benchmarks.data import Data, body
from benchmarks.handlers import api_event, measure_handler
from benchmarks.measure import Figure, Key, Stack, concurrently, peak_memory, sample
from benchmarks.paths import ANALYZE, BULK, RECORDS
from benchmarks.stacks import Service
from local.postgres import Settings

UPLOADERS, BATCHES_EACH = 8, 10
READERS, UPLOADERS_BESIDE, READS_EACH = 8, 4, 100
BATCH = 1000

Services = dict[Stack, Service]


def bodies(data: Data, count: int, number: int) -> list[bytes]:
    """The bodies of `number` uploads of `count` further records each."""
    return [body(rows) for rows in itertools.islice(data.batches(count), number)]


def uploads(data: Data, services: Services, counts: Iterable[int]) -> Iterator[tuple[Key, Figure]]:
    """Bulk uploads of `counts` records over HTTP, the same ones to each service."""
    for count in counts:
        sent = bodies(data, count, 101 if count == 1 else 21)
        for stack, service in services.items():
            with peak_memory(service.processes) as peak:
                times = sample(partial(service.client.post, BULK), sent, at_least=3, seconds=3.0)
            yield Key(f"bulk upload of {count:,}", data.style, "http", stack), Figure.of(times, peak.mb, count)


def upload_handler(data: Data, ours: Settings) -> Iterator[tuple[Key, Figure]]:
    """Bulk uploads of 10,000 at the handler."""
    events = [api_event("bulk_upload", body=sent.decode()) for sent in bodies(data, 10_000, 11)]
    found = measure_handler("bulk_upload", stacks.our_environment(ours), events, at_least=10)
    figure = Figure.of(found.times_ms, found.peak_mb, 10_000)
    yield Key("bulk upload of 10,000", data.style, "handler", "ours"), figure


def uploaders(data: Data, services: Services) -> Iterator[tuple[Key, Figure]]:
    """Many clients that upload at the same time, the same records to each service."""
    warm_up = [[sent] for sent in bodies(data, 1, UPLOADERS)]
    sent = bodies(data, BATCH, UPLOADERS * BATCHES_EACH)
    for stack, service in services.items():
        post = partial(service.client.post, BULK)
        concurrently(post, warm_up)
        with peak_memory(service.processes) as peak:
            start = time.perf_counter()
            times = concurrently(post, [sent[number::UPLOADERS] for number in range(UPLOADERS)])
            seconds = time.perf_counter() - start
        figure = Figure.of(times, peak.mb)
        figure.rate = len(sent) * BATCH / seconds
        yield Key(f"{UPLOADERS} uploaders of {BATCH:,}", data.style, "http", stack), figure


def readers(data: Data, ours: Service) -> Iterator[tuple[Key, Figure]]:
    """Clients that ask for the analysis at the same time, without a pause: alone, and beside others that upload."""
    clients = [[ANALYZE] * READS_EACH] * READERS
    concurrently(ours.client.get, [[ANALYZE] * 3] * READERS)
    with peak_memory(ours.processes) as peak:
        times = concurrently(ours.client.get, clients)
    yield Key(f"{READERS} readers", data.style, "http", "ours"), Figure.of(times, peak.mb)

    sent = bodies(data, BATCH, 400)
    done = Event()
    beside = [
        itertools.takewhile(lambda _: not done.is_set(), itertools.cycle(sent[number::UPLOADERS_BESIDE]))
        for number in range(UPLOADERS_BESIDE)
    ]
    with ThreadPoolExecutor(1) as thread, peak_memory(ours.processes) as peak:
        uploading = thread.submit(concurrently, partial(ours.client.post, BULK), beside)
        try:
            times = concurrently(ours.client.get, clients)
        finally:
            done.set()
        uploading.result()
    key = Key(f"{READERS} readers beside {UPLOADERS_BESIDE} uploaders", data.style, "http", "ours")
    yield key, Figure.of(times, peak.mb)


def clear(data: Data, services: Services) -> Iterator[tuple[Key, Figure]]:
    """Deletes everything, once."""
    for stack, service in services.items():
        with peak_memory(service.processes) as peak:
            start = time.perf_counter()
            service.client.delete(RECORDS)
            times = [(time.perf_counter() - start) * 1000]
        yield Key("clear", data.style, "http", stack), Figure.of(times, peak.mb)
