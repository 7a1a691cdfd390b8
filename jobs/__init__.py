"""Batch work on engines made for it: DuckDB on one machine, Spark on many, from the same settings."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if find_spec("dedup") is None:  # a checkout; a container or a cluster has the layer's package beside this one
    sys.path.append(str(ROOT / "layers"))


class BadInput(Exception):
    """What was given can't be worked on; the message says what was expected, what came, and what to do."""
