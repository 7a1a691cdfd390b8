"""The staging tables of loads: staging.upload_<upload>_<attempt>."""

from pg8000.native import Connection

from dedup.records import OPTIONAL
from dedup.store import change_log, rejected_rows
from dedup.store.record_columns import TYPES

CONTENT = ("name", "email", *OPTIONAL)
"""The columns of a staged row, and of a record, beside the customer and the source."""

HASHED_CONTENT = ", ".join(f"{column}::text" if TYPES.get(column) == "json" else column for column in CONTENT)
"""The content of a staged row or a record, as columns that can be hashed."""

DIGEST = f"hash_record_extended(ROW(text_id, {HASHED_CONTENT}), 0)"
"""A digest of the content of a staged row or a record. It has 64 bits: one change in 2^64 is overlooked."""

REPLACED = f", digest bigint GENERATED ALWAYS AS ({DIGEST}) STORED"
"""The further column of the staged rows of a snapshot. It is computed while the rest of the file is read."""

UPSERTED = ", file_order bigint GENERATED ALWAYS AS IDENTITY, deleted boolean"
"""The further columns of the staged rows of an upsert: their order in the file, and whether they are deleted."""

NUMBER, WORD = "coalesce(customer_id, hashtextextended(text_id, 1))", "coalesce(text_id, '')"
CUSTOMER = f"{NUMBER} AS number, {WORD} AS word"
"""The customer of a row or a record, an integer or a text, as two columns that are never null."""

_ABANDONED = "1 day"
"""How long after its lease the staging table of an upload is kept for an attempt that may still come."""

_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r'"


def drop_staging(connection: Connection, upload_id: int) -> None:
    """Drops the staging tables of an upload."""
    for [table] in connection.run(f"{_TABLES} AND split_part(relname, '_', 2) = '{upload_id}'"):
        connection.run(f"DROP TABLE IF EXISTS staging.{table}")


def drop_abandoned(connection: Connection) -> None:
    """Drops the staging tables of attempts that nobody will continue."""
    tables = connection.run(
        f"""{_TABLES} AND NOT EXISTS (
                SELECT FROM upload WHERE id = split_part(relname, '_', 2)::bigint AND status = 'loading'
                    AND lease_until > now() - interval '{_ABANDONED}')"""
    )
    for [table] in tables:
        connection.run(f"DROP TABLE IF EXISTS staging.{table}")
        rejected_rows.forget_abandoned(connection, int(table.split("_")[1]))


def insert_records(connection: Connection, rows: str, upload_id: int) -> int:
    """Makes records of staged rows (what follows FROM); returns how many."""
    columns = f"customer_id, text_id, source, {', '.join(CONTENT)}"
    [[last_id]] = connection.run(f"SELECT {change_log.LAST_ID}")
    # In id order, which fills the indexes from left to right.
    connection.run(
        f"""INSERT INTO record ({columns}, upload_id)
            SELECT {columns}, {upload_id} FROM {rows} ORDER BY customer_id, text_id"""
    )
    count = int(connection.row_count)
    change_log.append_inserted(connection, last_id, upload_id, count)
    return count
