"""Bulk work: matching on DuckDB or Spark, and counting regions on Spark. The same code runs on a laptop and on AWS."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if find_spec("dedup") is None:  # a checkout: images and clusters have the package `dedup` beside `jobs`
    sys.path.append(str(ROOT / "layers"))


class BadInput(Exception):
    """The input cannot be processed. The message says what was expected, what was found, and what to do."""
