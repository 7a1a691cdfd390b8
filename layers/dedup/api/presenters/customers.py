"""Presenter of erased customers."""

from dedup.api.models.customers import Erasure, RejectedFiles
from dedup.customer_ids import CustomerId
from dedup.services import erasure


def erasure_details(customer_id: CustomerId, erased: erasure.Erasure) -> Erasure:
    """Returns what was erased of a customer, and what remains."""
    customer, remaining = erased.customer, erased.customer.remaining
    return Erasure(
        customer_id=customer_id,
        records=customer.records,
        sources=customer.sources,
        rejected_files=RejectedFiles(
            status=remaining.status, files=remaining.files, rows=remaining.rows, reason=remaining.reason
        ),
        files=customer.files,
        exports=erased.exports,
    )
