"""GET /api/v1/matching/runs: lists matching runs, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import MatchRun
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
from dedup.api.parameters import Cursor, SmallLimit
from dedup.store import open_store

QUESTION = "runs"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/matching/runs", **operation("List matching runs", list[MatchRun], errors=[422], paged=True))
def list_runs(limit: SmallLimit = 20, cursor: Cursor = None) -> Response[list[MatchRun]]:
    before = decode_cursor(cursor, QUESTION).get("id")
    found = open_store().runs.page(before, limit + 1)
    shown = [MatchRun.model_validate(run) for run in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = make_handler(app)
