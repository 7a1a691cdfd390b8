"""GET /docs, /redoc and /openapi.json: serves the API's documentation. Nothing is loaded from other hosts."""

import json
from pathlib import Path

from aws_lambda_powertools import event_handler
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api import static_files
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.openapi import operation
from dedup.settings import settings

# The path of Powertools' Swagger UI files, without importing its module, which imports the OpenAPI generator.
HERE, BUNDLED = Path(__file__).parent, Path(event_handler.__file__).parent / "openapi" / "swagger_ui"
ASSETS = static_files.Files((*HERE.glob("assets/*"), *BUNDLED.iterdir()))

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/docs", **operation("Show Swagger UI", str, media="text/html", unavailable=None))
def swagger() -> Response[str]:
    return ASSETS.page((HERE / "swagger-ui.html").read_text())


@app.get("/redoc", **operation("Show ReDoc", str, media="text/html", unavailable=None))
def redoc() -> Response[str]:
    return ASSETS.page((HERE / "redoc.html").read_text())


@app.get("/openapi.json", **operation("Show the OpenAPI document", dict[str, object], unavailable=None))
def openapi() -> Response[str]:
    document, event = json.loads((HERE / "openapi.json").read_text()), app.current_event
    scheme, host = event.headers.get("X-Forwarded-Proto", "https"), event.request_context.domain_name
    stage = event.request_context.path.removesuffix("/openapi.json")
    document["servers"] = [{"url": f"{scheme}://{host}{stage}"}]
    document["components"]["schemas"]["Source"]["enum"] = list(settings().sources)
    return Response(200, "application/json", json.dumps(document), static_files.SAFE | {"Cache-Control": "max-age=60"})


@app.get(
    "/docs/<asset>",
    **operation("Download a file of the documentation", str, media="text/*", errors=[404], unavailable=None),
)
def asset_file(asset: str) -> Response[str]:
    return ASSETS.file(asset, app)


handler = make_handler(app)
