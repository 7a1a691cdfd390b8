"""GET /api/v1/deduplication/report: shows the report as HTML, spreadsheet or CSV."""

from base64 import b64encode
from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Header, Query
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.errors import problem
from dedup.api.openapi import operation
from dedup.services.report import make, to_csv, to_html, to_xlsx
from dedup.settings import settings
from dedup.store import open_store

HTML, CSV = "text/html", "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FORMATS = {"html": HTML, "csv": CSV, "xlsx": XLSX}
STYLES_ALONE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/report",
    **operation(
        "Show the report",
        str,
        description="Totals, overlap by customer and by person, completeness of each source, uploaded files, the rules "
        "of records and of matching, and changes since the latest baseline (`POST /api/v1/deduplication/reports`). "
        f"A spreadsheet is returned only if `Accept` starts with `{XLSX}` or `{HTML}`.",
        media=HTML,
        others={CSV: {"model": str}, XLSX: {"schema": {"type": "string", "format": "binary"}}},
        errors=[406, 422],
    ),
)
def report(
    file_format: Annotated[Literal["html", "csv", "xlsx"] | None, Query(alias="format")] = None,
    accept: Annotated[str, Header()] = "*/*",
) -> Response[str]:
    accepted = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    media = FORMATS[file_format] if file_format else next((one for one in accepted if one in FORMATS.values()), HTML)
    if media == XLSX and accepted[0] not in (XLSX, HTML):
        return problem(406, f"A spreadsheet needs an Accept header that starts with {XLSX}")
    found = make(open_store().reports.figures(), open_store().reports.baseline(), settings().sources)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if media == HTML:
        policy = {"Content-Security-Policy": STYLES_ALONE}
        return Response(200, f"{HTML}; charset=utf-8", to_html(found), headers | policy)
    name, content = ("report.csv", to_csv(found)) if media == CSV else ("report.xlsx", to_xlsx(found))
    headers |= {"Content-Disposition": f'attachment; filename="{name}"'}
    if media == CSV:
        return Response(200, f"{CSV}; charset=utf-8", content.decode(), headers)
    # Encoded here, because response validation does not accept bytes.
    spreadsheet = Response[str](200, media, b64encode(content).decode(), headers)
    spreadsheet.base64_encoded = True
    return spreadsheet


handler = make_handler(app)
