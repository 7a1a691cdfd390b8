"""POST /api/v1/deduplication/reports: stores the current figures as the report baseline."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import KeptReport
from dedup.api.openapi import operation
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/deduplication/reports",
    **operation(
        "Store the report baseline",
        KeptReport,
        description="Later reports show what changed since the latest baseline. If the figures equal those of the "
        "latest baseline, no new baseline is stored.",
        status=201,
        errors=[422],
    ),
)
def keep_report() -> Response[KeptReport]:
    kept = open_store().reports.keep_baseline()
    return Response(201, "application/json", KeptReport(id=kept.id, created_at=kept.created_at))


handler = make_handler(app)
