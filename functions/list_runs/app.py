"""GET /api/v1/matching/runs: the runs of the matching, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, pages
from dedup.answers import MatchRun
from dedup.store import open_store

QUESTION = "runs"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/matching/runs", **api.operation("List the runs of the matching", list[MatchRun], errors=[422], paged=True)
)
def list_runs(limit: api.SmallLimit = 20, cursor: api.Cursor = None) -> Response[list[MatchRun]]:
    before = pages.decode_cursor(cursor, QUESTION).get("id")
    found = open_store().runs(before, limit + 1)
    shown = [MatchRun.model_validate(run) for run in found[:limit]]
    return api.paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = api.handler(app)
