"""GET /app, /app/{file} and /app/config.json: serves the page. It loads nothing from other hosts, and calls only the
API, the bucket and the sign-in."""

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
    """The sign-in of this deployment, or None. It is in stage variables, because the template creates the stage after
    the user pool's client."""
    variables = app.current_event.stage_variables
    return SignIn(url=variables["SignIn"], client_id=variables["ClientId"]) if variables.get("ClientId") else None


@app.get("/app", **operation("Show the page", str, media="text/html", unavailable=None))
def page() -> Response[str]:
    provider = sign_in()
    hosts = ["'self'", bucket.origin(), provider.url if provider else ""]
    return FILES.page(HTML, **{"Content-Security-Policy": POLICY.format(" ".join(filter(None, hosts)))})


@app.get("/app/config.json", **operation("Show the page's configuration", PageConfig, unavailable=None))
def config() -> PageConfig:
    return PageConfig(sources=settings().sources, sign_in=sign_in())


@app.get("/app/<file>", **operation("Download a file of the page", str, media="text/*", errors=[404], unavailable=None))
def page_file(file: str) -> Response[str]:
    return FILES.file(file, app)


handler = make_handler(app)
