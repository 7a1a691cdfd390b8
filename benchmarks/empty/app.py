"""The least that a handler of this kind is: Powertools' logger, metrics and validating resolver, and one route."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver

logger = Logger(service="empty")
metrics = Metrics(namespace="Empty", service="empty")
app = APIGatewayRestResolver(enable_validation=True)


@app.get("/")
def nothing() -> dict[str, str]:
    """Answers nothing."""
    return {}


handler = logger.inject_lambda_context(app.resolve)
