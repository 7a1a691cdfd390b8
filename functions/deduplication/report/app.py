"""GET /api/v1/deduplication/report: all figures as a page, a spreadsheet or CSV."""

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
        "The report",
        str,
        description="Totals and who has whom, by customer and by person, how complete each source is, what files "
        "brought, the rules in force, and what changed since the last baseline (`POST /api/v1/deduplication/reports`). "
        f"Who accepts `{XLSX}` first, or a web page, is given a spreadsheet: the gateway makes bytes for these alone.",
        media=HTML,
        others={CSV: {"model": str}, XLSX: {"schema": {"type": "string", "format": "binary"}}},
        errors=[406, 422],
    ),
)
def report(
    form: Annotated[Literal["html", "csv", "xlsx"] | None, Query(alias="format")] = None,
    accept: Annotated[str, Header()] = "*/*",
) -> Response[str]:
    accepted = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    media = FORMATS[form] if form else next((one for one in accepted if one in FORMATS.values()), HTML)
    if media == XLSX and accepted[0] not in (XLSX, HTML):
        return problem(406, f"For a spreadsheet the header Accept has to begin with {XLSX}")
    found = make(open_store().reports.figures(), open_store().reports.baseline(), settings().sources)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if media == HTML:
        policy = {"Content-Security-Policy": STYLES_ALONE}
        return Response(200, f"{HTML}; charset=utf-8", to_html(found), headers | policy)
    name, content = ("report.csv", to_csv(found)) if media == CSV else ("report.xlsx", to_xlsx(found))
    headers |= {"Content-Disposition": f'attachment; filename="{name}"'}
    if media == CSV:
        return Response(200, f"{CSV}; charset=utf-8", content.decode(), headers)
    # As text already, for the validation of answers reads no bytes.
    spreadsheet = Response[str](200, media, b64encode(content).decode(), headers)
    spreadsheet.base64_encoded = True
    return spreadsheet


handler = make_handler(app)
