"""The audit trail: who did what, in the same transaction as the change."""

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.store.sql import text

UNKNOWN = "unknown"
"""The principal of a caller who did not sign in, as on a laptop."""


def record_action(
    connection: Connection,
    action: str,
    principal: str,
    *,
    upload_id: int | None = None,
    customer_id: CustomerId | None = None,
    records: int | None = None,
) -> None:
    """Records what `principal` did, to which upload or customer, and to how many records."""
    customer = None if customer_id is None else text(str(customer_id))
    columns = {"upload_id": upload_id, "customer_id": customer, "records": records}
    known = {name: value for name, value in columns.items() if value is not None}
    connection.run(
        f"""INSERT INTO audit ({", ".join(["action", "principal", *known])})
            VALUES ({", ".join([text(action), text(principal), *map(str, known.values())])})"""
    )
