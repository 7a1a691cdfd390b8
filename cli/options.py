"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Mode = Literal["add", "replace", "upsert"]
UPLOADS = {"add": "uploads", "replace": "uploads/snapshots", "upsert": "uploads/upserts"}
"""The path of the operation that creates an upload, by its mode."""
By = Literal["customer", "entity"]
Format = Literal["csv", "ndjson", "parquet"]
ReportFormat = Literal["html", "csv", "xlsx"]
Verdict = Literal["same", "different"]
DateOrder = Literal["DMY", "MDY", "YMD"]

Json = Annotated[bool, typer.Option("--json", help="Print the response as JSON and nothing else.")]
ByOption = Annotated[By, typer.Option(help="Count customer ids, or entities.")]
In = Annotated[str, typer.Option("--in", metavar="A,B", help="Only customers in every one of these sources.")]
NotIn = Annotated[str, typer.Option("--not-in", metavar="A,B", help="Exclude customers in any of these sources.")]
Region = Annotated[str, typer.Option("--region", metavar="A,B", help="Only customers in exactly these sources.")]
Latest = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Maximum number, the newest first.")]
Known = Annotated[str, typer.Option(show_default=False)]
FIELDS: Any = {"metavar": "COLUMN=FIELD", "help": "Field of a column, or ignore. May be repeated."}
NOTHING: Any = []
Keep = Annotated[list[str], typer.Option(help="Column to keep as an attribute. May be repeated.")]
Dates = Annotated[DateOrder | None, typer.Option(help="Order of day, month and year.")]
Ids = Annotated[str, typer.Option("--id", metavar="COLUMN", help="Column of the ids; generate: made from the content.")]
Save = Annotated[bool, typer.Option("--save", help="Use the mapping for later files of the source.")]
Preview = Annotated[bool, typer.Option("--preview", help="Show ten records as they will be stored; load nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what the file would change; load nothing.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Minutes to wait without progress.")]
Rejects = Annotated[
    Path | None, typer.Option("--rejects", help="Save the rejected rows to this file, as CSV; - for standard output.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Path of the file; - for standard output.")]
