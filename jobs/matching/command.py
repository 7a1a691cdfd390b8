"""The command line `python -m jobs.matching INPUT OUTPUT`. Reads Parquet, CSV or JSON; writes the files that
jobs.matching.outputs lists."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dedup.matching.settings import DEFAULT, Settings

from jobs import BadInput, storage
from jobs.matching import outputs
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.match import match
from jobs.matching.model import Model
from jobs.matching.spark_engine import Spark
from jobs.matching.summary import Summary, logger
from jobs.scratch import Scratch
from jobs.spark_session import SUBMITTED

ENGINES: dict[str, type[DuckDB] | type[Spark]] = {"duckdb": DuckDB, "spark": Spark}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if the run finished, 2 if the input cannot be matched."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        with Scratch("match-") as scratch:
            summary = _run(options, Path(scratch))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(summary.content(), indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m jobs.matching",
        description="Finds records that describe the same entity, with the evidence. Every path may be s3://BUCKET/KEY.",
    )
    parser.add_argument("input", help="records: a Parquet, CSV or JSON file, or a folder of Parquet files")
    parser.add_argument("output", help="folder to write to")
    parser.add_argument("--engine", choices=ENGINES, default="duckdb")
    parser.add_argument("--settings", help="matching settings as JSON; the default ones otherwise")
    parser.add_argument(
        "--model",
        help="model version to use unchanged, instead of training one: the output folder of an earlier run, or a "
        "model.json, beside which terms.parquet is",
    )
    parser.add_argument("--previous", help="entities.parquet of an earlier run, to keep its entity ids")
    parser.add_argument("--decisions", help='JSON lines: {"records": [1, 2], "decision": "same"}')
    parser.add_argument("--first-id", type=int, default=1, help="lowest id of new entities")
    parser.add_argument("--memory", default="4GB", help="memory limit of the engine")
    return parser


def _run(options: argparse.Namespace, scratch: Path) -> Summary:
    def local_file(location: str | None) -> Path | None:
        return storage.local_copy(location, scratch) if location else None

    def readable(location: str | None) -> str | None:
        """The location as the engine reads it: only a submitted Spark reads s3:// itself."""
        return location if SUBMITTED or not location else str(storage.local_copy(location, scratch))

    decisions, settings = map(local_file, (options.decisions, options.settings))
    model, terms = _version(options.model, scratch)
    lines = decisions.read_text().splitlines() if decisions else []
    is_uploaded = options.output.startswith(storage.S3) and not SUBMITTED
    output = str(scratch / "output") if is_uploaded else options.output
    engine_options = {"scratch": f"{options.output}-scratch"} if SUBMITTED else {"memory": options.memory}
    with ENGINES[options.engine](**engine_options) as engine:
        summary = match(
            engine,
            str(readable(options.input)),
            output,
            Settings.load(settings or DEFAULT),
            decisions=Decisions.of([json.loads(line) for line in lines if line.strip()]),
            previous=readable(options.previous),
            model=model,
            terms=readable(terms),
            first_id=options.first_id,
        )
    if is_uploaded:
        storage.upload(Path(output), options.output)
    return summary


def _version(given: str | None, scratch: Path) -> tuple[Model | None, str | None]:
    """A model version, and the location of its term frequencies, if it has any. `given`: the location of its
    model.json, or of the folder with it. Raises BadInput."""
    if not given:
        return None, None
    location = given if given.endswith(".json") else f"{given.rstrip('/')}/{outputs.MODEL}"
    model = Model.load(storage.local_copy(location, scratch))
    if model.terms is None:
        return model, None
    terms = location[: location.rfind("/") + 1] + outputs.TERMS
    if not terms.startswith(storage.S3) and not Path(terms).exists():
        raise BadInput(f"{terms}: not found; expected the term frequencies of model version {model.version}")
    return model, terms
