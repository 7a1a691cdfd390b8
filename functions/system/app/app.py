"""GET /app, /app/{file} and /app/config.json: the page, from files of ours alone; it calls the API and nothing else."""

from pathlib import Path

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api import static_files
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.system import PageConfig, SignIn
from dedup.api.openapi import operation
from dedup.aws import bucket
from dedup.settings import settings

WEB = Path(__file__).parent / "web"
HTML = (WEB / "index.html").read_text()
FILES = static_files.Files(WEB.iterdir())
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

app = APIGatewayRestResolver(**RESOLVER)
install(app)


def sign_in() -> SignIn | None:
    """Where people sign in: what the template gave the stage, which is made after the user pool's client."""
    given = app.current_event.stage_variables
    return SignIn(url=given["SignIn"], client_id=given["ClientId"]) if given.get("ClientId") else None


@app.get("/app", **operation("The page", str, media="text/html", unavailable=None))
def page() -> Response[str]:
    where = sign_in()
    talks_to = ["'self'", bucket.origin(), where.url if where else ""]
    return FILES.page(HTML, **{"Content-Security-Policy": POLICY.format(" ".join(filter(None, talks_to)))})


@app.get("/app/config.json", **operation("What the page has to know", PageConfig, unavailable=None))
def config() -> PageConfig:
    return PageConfig(sources=settings().sources, sign_in=sign_in())


@app.get("/app/<file>", **operation("A file of the page", str, media="text/*", errors=[404], unavailable=None))
def page_file(file: str) -> Response[str]:
    return FILES.file(file, app)


handler = make_handler(app)
