"""Decisions of clerical review, as a matching applies them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa
from dedup.matching.clustering import Pair

from jobs.matching.engine import Engine, arrow_table


@dataclass(frozen=True)
class Decisions:
    """Pairs of record ids, the smaller id first, that people decided to be the same entity or different ones."""

    same: frozenset[Pair] = frozenset()
    different: frozenset[Pair] = frozenset()

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Decisions":
        """From rows {"records": [id, …], "decision": "same" | "different"}, the oldest first. A later decision replaces
        an earlier one about the same pair."""
        decided: dict[Pair, str] = {}
        for row in rows:
            ids = sorted(int(record) for record in row["records"])
            decided |= dict.fromkeys(combinations(ids, 2), row["decision"])
        return cls(
            frozenset(pair for pair, decision in decided.items() if decision == "same"),
            frozenset(pair for pair, decision in decided.items() if decision == "different"),
        )

    def create_tables(self, engine: Engine) -> None:
        """Makes the tables `decision` (id_l, id_r, decision) and `decided` (id): every record of a decision."""
        rows = [(*pair, "same") for pair in self.same] + [(*pair, "different") for pair in self.different]
        schema = {"id_l": pa.int64(), "id_r": pa.int64(), "decision": pa.string()}
        engine.fill("decision", arrow_table(sorted(rows), schema))
        engine.create("decided", "SELECT id_l AS id FROM decision UNION SELECT id_r FROM decision")
