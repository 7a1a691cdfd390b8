"""GET /docs, /redoc and /openapi.json: the whole API as two pages and as a document, from files of ours alone."""

import json
from hashlib import sha256
from pathlib import Path

from aws_lambda_powertools import event_handler
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api
from dedup.settings import settings

# Swagger UI as Powertools brings it; its module would import all that makes documents.
HERE, BUNDLED = Path(__file__).parent, Path(event_handler.__file__).parent / "openapi" / "swagger_ui"
MEDIA = {".css": "text/css", ".js": "text/javascript", ".txt": "text/plain"}
ASSETS = {path.name: path for path in (*HERE.glob("assets/*"), *BUNDLED.iterdir()) if path.suffix in MEDIA}

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


def answer(media: str, body: str, kept: str = "max-age=60") -> Response[str]:
    headers = {"Cache-Control": kept, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
    return Response(200, media, body, headers)


def page(name: str) -> str:
    """A page whose links change with any asset, so that each may be kept for good."""
    version = sha256(b"".join(path.read_bytes() for _, path in sorted(ASSETS.items()))).hexdigest()
    return (HERE / name).read_text().replace("?v=", f"?v={version[:16]}")


@app.get("/docs", **api.operation("Swagger UI", str, media="text/html", unavailable=None))
def swagger() -> Response[str]:
    return answer("text/html; charset=utf-8", page("swagger-ui.html"))


@app.get("/redoc", **api.operation("ReDoc", str, media="text/html", unavailable=None))
def redoc() -> Response[str]:
    return answer("text/html; charset=utf-8", page("redoc.html"))


@app.get("/openapi.json", **api.operation("This document", dict[str, object], unavailable=None))
def openapi() -> Response[str]:
    document, event = json.loads((HERE / "openapi.json").read_text()), app.current_event
    scheme, host = event.headers.get("X-Forwarded-Proto", "https"), event.request_context.domain_name
    stage = event.request_context.path.removesuffix("/openapi.json")
    document["servers"] = [{"url": f"{scheme}://{host}{stage}"}]
    document["components"]["schemas"]["Source"]["enum"] = list(settings().sources)
    return answer("application/json", json.dumps(document))


@app.get("/docs/<asset>", **api.operation("A file of the pages", str, media="text/*", errors=[404], unavailable=None))
def asset_file(asset: str) -> Response[str]:
    if asset not in ASSETS:
        return api.problem(404, "No such file")
    kept = "max-age=31536000, immutable" if app.current_event.query_string_parameters.get("v") else "no-cache"
    return answer(f"{MEDIA[ASSETS[asset].suffix]}; charset=utf-8", ASSETS[asset].read_text(), kept)


handler = api.handler(app)
