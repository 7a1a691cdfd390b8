"""GET /app, /app/{file} and /app/config.json: the page, from files of ours alone; it calls the API and nothing else."""

from pathlib import Path

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, bucket, static
from dedup.answers import PageConfig, SignIn
from dedup.settings import settings

WEB = Path(__file__).parent / "web"
HTML = (WEB / "index.html").read_text()
FILES = static.Files(WEB.iterdir())
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


def sign_in() -> SignIn | None:
    """Where people sign in: what the template gave the stage, which is made after the user pool's client."""
    given = app.current_event.stage_variables
    return SignIn(url=given["SignIn"], client_id=given["ClientId"]) if given.get("ClientId") else None


@app.get("/app", **api.operation("The page", str, media="text/html", unavailable=None))
def page() -> Response[str]:
    where = sign_in()
    talks_to = ["'self'", bucket.origin(), where.url if where else ""]
    return FILES.page(HTML, **{"Content-Security-Policy": POLICY.format(" ".join(filter(None, talks_to)))})


@app.get("/app/config.json", **api.operation("What the page has to know", PageConfig, unavailable=None))
def config() -> PageConfig:
    return PageConfig(sources=settings().sources, sign_in=sign_in())


@app.get("/app/<file>", **api.operation("A file of the page", str, media="text/*", errors=[404], unavailable=None))
def page_file(file: str) -> Response[str]:
    return FILES.file(file, app)


handler = api.handler(app)
