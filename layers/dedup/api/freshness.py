"""How responses by entity say how far entities are resolved: in two fields of an object, in two headers of a list."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dedup.store.matching.freshness import AsOf

AS_OF = "X-As-Of"
UNRESOLVED = "X-Unresolved-Records"


def fields(resolved: "AsOf | None") -> dict[str, int]:
    """Returns the fields of an object; none for an answer by customer."""
    return {"as_of": resolved.as_of, "unresolved_records": resolved.unresolved_records} if resolved else {}


def headers(resolved: "AsOf | None") -> dict[str, str]:
    """Returns the headers of a list; none for an answer by customer."""
    return {AS_OF: str(resolved.as_of), UNRESOLVED: str(resolved.unresolved_records)} if resolved else {}
