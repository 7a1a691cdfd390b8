"""POST /api/v1/deduplication/reports: keeps the figures of now, for later reports to say what changed."""

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
        "Keep the report's figures",
        KeptReport,
        description="Later reports say what changed since. What is the same as was kept last is not kept twice.",
        status=201,
        errors=[422],
    ),
)
def keep_report() -> Response[KeptReport]:
    kept = open_store().reports.keep_baseline()
    return Response(201, "application/json", KeptReport(id=kept.id, created_at=kept.created_at))


handler = make_handler(app)
