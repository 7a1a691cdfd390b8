"""Sends lost messages of tasks again, ends tasks that cannot continue and uploads about which nobody decided in time,
and deletes what the database stores about rejected rows whose objects have expired. A schedule invokes it."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.observability import logger
from dedup.services import tasks
from dedup.services.column_mappings import expire
from dedup.services.erasure import forget_expired
from dedup.services.previews import end_undecided
from dedup.services.upload_events import announce
from dedup.store import open_store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    store = open_store()
    swept = tasks.sweep(store, float(event.get("patience", tasks.PATIENCE)))
    ended = [*(task.id for task in swept.ended if task.kind == "upload"), *expire(store), *end_undecided(store)]
    for upload in filter(None, map(store.uploads.get, ended)):
        announce(upload, store)
    forget_expired(store)
    return {"enqueued": len(swept.enqueued), "ended": len(swept.ended)}
