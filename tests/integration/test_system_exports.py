"""The exports of CRMs, shops and address books, loaded as they are: the same rows in every format are the same records,
customers and entities."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.services import ingest
from dedup.store import Store

from tests.crm_exports import LAYOUTS, contacts, write
from tests.exports import parquet, xlsx
from tests.integration.conftest import BUCKET, plenty
from tests.integration.test_matching import matched

CONTACTS = contacts(120)


def cells_of(system: str) -> list[list[str]]:
    """The cells of a system's CSV export, with the lines below its table."""
    layout = LAYOUTS[system]
    text = write(system, CONTACTS, None if layout.id_column else "ID").decode(layout.encoding).removeprefix("\ufeff")
    return list(csv.reader(io.StringIO(text, newline="")))


def as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def as_xlsx(rows: list[list[str]]) -> bytes:
    """As Excel does when it opens the CSV file: whole numbers are stored as numbers, unless they start with a zero."""
    return xlsx([[int(cell) if re.fullmatch("[1-9][0-9]{0,14}", cell) else cell for cell in row] for row in rows])


def as_parquet(rows: list[list[str]]) -> bytes:
    # A Parquet file has no lines below its table.
    return parquet([row for row in rows if len(row) == len(rows[0])])


FORMATS: Mapping[str, tuple[str, Callable[[list[list[str]]], bytes]]] = {
    "salesforce": ("night.csv", as_csv), "hubspot": ("night.xlsx", as_xlsx), "internal": ("night.parquet", as_parquet),
}  # fmt: skip
"""The name of the file and how it is written, by the source that it is loaded for."""


@pytest.mark.parametrize("system", LAYOUTS)
def test_export_is_the_same_records_customers_and_entities_in_every_format(store: Store, s3: Any, system: str) -> None:
    rows = cells_of(system)
    for source, (name, write_file) in FORMATS.items():
        key = f"incoming/{source}/{name}"
        version = s3.put_object(Bucket=BUCKET, Key=key, Body=write_file(rows))["VersionId"]
        upload = ingest.ingest(ObjectVersion(BUCKET, key, version), store, plenty)
        assert upload
        assert (upload.status, upload.accepted, upload.rejected) == ("done", len(CONTACTS), 0), upload.reasons

    stored = defaultdict(list)
    for record in json.loads(store.records.page(None, 10_000)[0]):
        told = {name: value for name, value in record.items() if name not in ("id", "source", "created_at")}
        stored[record["source"]].append(json.dumps(told, sort_keys=True))
    assert sorted(stored["salesforce"]) == sorted(stored["hubspot"]) == sorted(stored["internal"])
    assert store.questions.counts() == {frozenset(FORMATS): len(CONTACTS)}

    matched(store, methods=["rules"])
    entity_of = store.entities.of_records(range(1, 3 * len(CONTACTS) + 1))
    groups: dict[str, dict[int, set[Any]]] = {source: defaultdict(set) for source in FORMATS}
    for record in json.loads(store.records.page(None, 10_000)[0]):
        groups[record["source"]][entity_of[record["id"]]].add(record["customer_id"])
    people = [sorted(sorted(map(str, group)) for group in groups[source].values()) for source in FORMATS]
    assert people[0] == people[1] == people[2]
    # Nearly all are joined with themselves: two records with nothing to compare are not.
    assert len({*entity_of.values()}) < 1.5 * len(people[0])
