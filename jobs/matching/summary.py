"""What a matching did: counts and timings, as run.json contains them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dedup.matching.settings import Settings

logger = logging.getLogger("jobs")


@dataclass
class Summary:
    """Counts by name, and seconds by step."""

    engine: str
    settings: Settings
    waived: tuple[str, ...] = ()
    """Names of the constraints that do not apply to these records."""
    terms: str | None = None
    """The digest of the term frequencies of these records; None if those of a version are used."""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    model_version: str = ""
    trained: bool = False
    report: Callable[[str], None] = lambda step: None
    """Called with the name of each step before it begins: read, rules, train, score, cluster, write."""

    @property
    def compared(self) -> int:
        """Number of records that the model compares: all but exact duplicates."""
        return self.counts["records"] - self.counts["customer_duplicates"] - self.counts["exact_duplicates"]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Reports and times a step."""
        begun = time.perf_counter()
        logger.info("%s …", name)
        self.report(name)
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 2)

    def content(self) -> dict[str, Any]:
        """The content of run.json."""
        return {
            "engine": self.engine,
            "methods": self.settings.methods,
            "model": {"version": self.model_version, "trained_here": self.trained},
            "waived": self.waived,
            "counts": self.counts,
            "seconds": self.seconds,
        }
