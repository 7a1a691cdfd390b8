"""Who is compared: `python -m benchmarks.matching.contenders NAME RECORDS FOUND` writes (id, cluster) as Parquet.

Ours three ways, and two other libraries on the same normalised columns, each set up as its manual shows."""

import io
import sys
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from dedup.matching.rules import conventions_of
from dedup.matching.settings import Settings

from jobs.matching.command import ENGINES
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.match import match

LABELS = 100
"""Pairs of each kind that dedupe is taught with: it learns from labels, and gets them from a sibling of the data."""


def ours(records: Path, found: Path, methods: tuple[str, ...] = ("rules", "model"), engine: str = "duckdb") -> None:
    """jobs.matching with the default settings."""
    output = found.with_suffix("")
    settings = Settings.load().model_copy(update={"methods": methods})
    options: dict[str, Any] = {"memory": "3GB"} if engine == "duckdb" else {"memory": "5g"}
    with ENGINES[engine](**options) as opened:
        match(opened, str(records), str(output), settings)
    entities = pq.read_table(output / "entities.parquet")
    pq.write_table(entities.rename_columns(["id", "cluster"]), found)


def _normalised(records: Path) -> list[dict[str, Any]]:
    with DuckDB() as engine:
        engine.read(str(records))
        engine.normalise(conventions_of(Settings.load().model_dump()))
        rows = engine.arrow("SELECT * FROM records ORDER BY id").to_pylist()
    truth = {row["id"]: row["entity"] for row in pq.read_table(records, columns=["id", "entity"]).to_pylist()}
    return [{**row, "entity": truth[row["id"]]} for row in rows]


def _write(found: Path, ids: Iterable[int], pairs: Iterable[tuple[int, int]]) -> None:
    """Connected components of the pairs, everyone else alone."""
    parent = {record: record for record in ids}

    def top(record: int) -> int:
        while parent[record] != record:
            parent[record] = parent[parent[record]]
            record = parent[record]
        return record

    for left, right in pairs:
        one, other = top(left), top(right)
        parent[max(one, other)] = min(one, other)
    pq.write_table(pa.table({"id": [*parent], "cluster": [top(record) for record in parent]}), found)


COMPARED = ("given", "family", "email", "phone", "date_of_birth", "address", "city", "postcode")
BLOCKED = (["email"], ["phone"], ["date_of_birth"], ["postcode", "family"], ["address"], ["given", "family"])


def recordlinkage(records: Path, found: Path) -> None:
    """recordlinkage: blocks, Jaro-Winkler, and its unsupervised classifier (ECM)."""
    import recordlinkage as rl

    rows = _normalised(records)
    matches = rl.ECMClassifier(binarize=0.5).fit_predict(_features(rows))
    _write(found, (row["id"] for row in rows), matches)


def recordlinkage_taught(records: Path, found: Path) -> None:
    """recordlinkage: the same, with its logistic regression, which learns from all of a sibling of the data."""
    import recordlinkage as rl

    rows = _normalised(records)
    features = _features(rows)
    teacher = _normalised(_teacher(records))
    lessons = _features(teacher)[features.columns]
    person = {row["id"]: row["entity"] for row in teacher}
    model = rl.LogisticRegressionClassifier()
    model.fit(lessons, lessons.index[[person[a] == person[b] for a, b in lessons.index]])
    _write(found, (row["id"] for row in rows), model.predict(features))


def _teacher(records: Path) -> Path:
    return records.with_name(f"{SIBLINGS[records.stem]}.parquet")


def _features(rows: list[dict[str, Any]]) -> Any:
    """How alike the pairs are that recordlinkage's blocks bring together: a pandas frame by the ids of both."""
    import pandas
    import recordlinkage as rl

    frame = pandas.DataFrame(rows).set_index("id")
    present = [column for column in COMPARED if frame[column].notna().any()]
    pairs = None
    for block in BLOCKED:
        if not set(block) <= set(present):
            continue
        kept = frame.dropna(subset=block)
        blocked = rl.Index()
        blocked.block(block)
        new = blocked.index(kept)
        pairs = new if pairs is None else pairs.union(new)
    compare = rl.Compare()
    for column in present:
        if column in ("given", "family", "address", "city"):
            compare.string(column, column, method="jarowinkler", threshold=0.88, label=column)
        else:
            compare.exact(column, column, label=column)
    return compare.compute(pairs, frame)


def dedupe(records: Path, found: Path) -> None:
    """dedupe: learns from labelled pairs of a sibling of the data, which SIBLINGS names."""
    import dedupe as library
    from dedupe.serializer import write_training
    from dedupe.variables import ShortString, String

    rows = _normalised(records)
    present = [column for column in COMPARED if any(row[column] for row in rows)]
    kinds: dict[str, Callable[..., Any]] = {"phone": ShortString, "postcode": ShortString, "email": ShortString}
    fields = [kinds.get(column, String)(column, has_missing=True) for column in present]
    model = library.Dedupe(fields, num_cores=2)
    data = {row["id"]: {column: row[column] for column in present} for row in rows}
    random = Random(1)
    teacher = _normalised(_teacher(records))
    known = [{column: row[column] for column in present} for row in teacher]
    people: dict[int, list[int]] = {}
    for place, row in enumerate(teacher):
        people.setdefault(row["entity"], []).append(place)
    same = [pair for places in people.values() for pair in combinations(places, 2)]
    other = [random.sample(range(len(teacher)), 2) for _ in range(LABELS)]
    labels = io.StringIO()
    write_training({
        "match": [(known[a], known[b]) for a, b in random.sample(same, min(LABELS, len(same)))],
        "distinct": [(known[a], known[b]) for a, b in other if teacher[a]["entity"] != teacher[b]["entity"]],
    }, labels)  # fmt: skip
    labels.seek(0)
    model.prepare_training(data, training_file=labels, sample_size=1500)
    model.train(index_predicates=False)
    clusters = model.partition(data, 0.5)
    _write(found, data, ((int(ids[0]), int(other)) for ids, _ in clusters for other in ids[1:]))


SIBLINGS = {
    "febrl1": "febrl2",
    "febrl2": "febrl1",
    "febrl3": "febrl2",
    "febrl4": "febrl1",
    "people-10k": "people-other",
    "people-100k": "people-other",
}
"""Where labels come from for who is taught: never from the data that they are measured on."""

CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "rules": lambda records, found: ours(records, found, ("rules",)),
    "splink": lambda records, found: ours(records, found, ("model",)),
    "rules + splink": ours,
    "rules + splink on Spark": lambda records, found: ours(records, found, engine="spark"),
    "recordlinkage": recordlinkage,
    "recordlinkage, taught": recordlinkage_taught,
    "dedupe": dedupe,
}

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
