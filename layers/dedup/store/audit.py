"""The audit trail: who did what, in the same transaction as the change."""

from pg8000.native import Connection

from dedup.store.sql import text

UNKNOWN = "unknown"
"""The principal of a caller who did not sign in, as on a laptop."""


def record_action(
    connection: Connection,
    action: str,
    principal: str,
    *,
    upload_id: int | None = None,
    customer_id: int | None = None,
    records: int | None = None,
) -> None:
    """Records what `principal` did, to which upload or customer, and to how many records."""
    columns = {"upload_id": upload_id, "customer_id": customer_id, "records": records}
    known = {name: value for name, value in columns.items() if value is not None}
    connection.run(
        f"""INSERT INTO audit ({", ".join(["action", "principal", *known])})
            VALUES ({", ".join([text(action), text(principal), *map(str, known.values())])})"""
    )
