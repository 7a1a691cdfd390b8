"""GET /api/v1/matching/runs: lists matching runs, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import MatchRun
from dedup.api.openapi import operation
from dedup.api.pagination import newest_first
from dedup.api.parameters import Cursor, SmallLimit
from dedup.store import open_store

QUESTION = "runs"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/matching/runs", **operation("List matching runs", list[MatchRun], errors=[422], paged=True))
def list_runs(limit: SmallLimit = 20, cursor: Cursor = None) -> Response[list[MatchRun]]:
    return newest_first(app, QUESTION, cursor, limit, open_store().runs.page, MatchRun.model_validate)


handler = make_handler(app)
