"""GET /app, /app/{file} and /app/config.json: the page, from files of ours alone; it calls the API and nothing else."""

from hashlib import sha256
from pathlib import Path

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, bucket
from dedup.answers import PageConfig, SignIn
from dedup.settings import settings

MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
WEB = Path(__file__).parent / "web"
HTML = (WEB / "index.html").read_text()
FILES = {path.name: path.read_text() for path in sorted(WEB.iterdir()) if path.suffix in MEDIA}
VERSION = sha256("".join(FILES.values()).encode()).hexdigest()[:16]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


def answer(media: str, body: str, **headers: str) -> Response[str]:
    """A file that names the others by their version, so that a browser may keep each for good."""
    safe = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return Response(200, f"{media}; charset=utf-8", body.replace("?v=", f"?v={VERSION}"), safe | headers)


def sign_in() -> SignIn | None:
    """Where people sign in: what the template gave the stage, which is made after the user pool's client."""
    given = app.current_event.stage_variables
    return SignIn(url=given["SignIn"], client_id=given["ClientId"]) if given.get("ClientId") else None


@app.get("/app", **api.operation("The page", str, media="text/html", unavailable=None))
def page() -> Response[str]:
    where = sign_in()
    talks_to = ["'self'", bucket.origin(), where.url if where else ""]
    policy = POLICY.format(" ".join(filter(None, talks_to)))
    return answer("text/html", HTML, **{"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


@app.get("/app/config.json", **api.operation("What the page has to know", PageConfig, unavailable=None))
def config() -> PageConfig:
    return PageConfig(sources=settings().sources, sign_in=sign_in())


@app.get("/app/<file>", **api.operation("A file of the page", str, media="text/*", errors=[404], unavailable=None))
def page_file(file: str) -> Response[str]:
    if file not in FILES:
        return api.problem(404, "No such file")
    kept = "max-age=31536000, immutable" if app.current_event.query_string_parameters.get("v") else "no-cache"
    return answer(MEDIA[Path(file).suffix], FILES[file], **{"Cache-Control": kept})


handler = api.handler(app)
