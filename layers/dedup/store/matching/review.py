"""The pairs for clerical review."""

from collections.abc import Mapping
from typing import Any

from pg8000.native import Connection

from dedup.store.connection import Database
from dedup.store.matching.entities import whole_records
from dedup.store.matching.run_tables import require_active_run, settings_of


class Review:
    """The review pairs of the active run of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, limit: int) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """The pairs that nobody has decided yet, the most uncertain first, if both records exist and fit into
        entities.SHOWN_BYTES; and the run's settings. Raises NoRun."""

        def work(connection: Connection) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
            tables = require_active_run(connection)
            rows = connection.run(
                f"""SELECT v.record_a, v.record_b, v.weight, v.probability, v.waterfall, v.constraint_name
                    FROM {tables.review} v
                    WHERE NOT EXISTS (SELECT FROM decision_pair p
                                      WHERE p.record_a = v.record_a AND p.record_b = v.record_b)
                    ORDER BY uncertainty DESC, record_a, record_b LIMIT {limit}"""
            )
            records = whole_records(connection, list(dict.fromkeys(record for row in rows for record in row[:2])))
            pairs = [
                {
                    "record_a": records[a],
                    "record_b": records[b],
                    "weight": weight,
                    "probability": probability,
                    "constraint_name": constraint_name,
                    "waterfall": waterfall,
                }
                for a, b, weight, probability, waterfall, constraint_name in rows
                if a in records and b in records
            ]
            return pairs, settings_of(connection, tables)

        return self._database.read(work)
