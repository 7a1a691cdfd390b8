"""Column mappings of uploads: shown as tables, and stated by options."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import screen
from .api import Api, as_json
from .errors import FAILED, REFUSED, CommandError
from .screen import err

GENERATE = "generate"
"""What --id says if the ids are made from the content of the rows."""


@dataclass(frozen=True)
class Changes:
    """What the options say about the proposed mapping. `fields`: COLUMN=FIELD."""

    fields: Sequence[str] = ()
    keep: Sequence[str] = ()
    date_order: str | None = None
    ids: str | None = None
    source: str | None = None
    save: bool = False

    def __bool__(self) -> bool:
        return bool(self.fields or self.keep or self.date_order or self.ids or self.save)

    @property
    def options(self) -> str:
        """The options of `dedup mapping` that say the same."""
        said = {
            "--set": self.fields,
            "--keep": self.keep,
            "--date-order": [self.date_order],
            "--id": [self.ids],
            "--source": [self.source],
        }
        words = [f"{option} {shlex.quote(value)}" for option, values in said.items() for value in values if value]
        words += ["--save"] * self.save
        return " ".join(words) or "--accept"

    def body(self, upload: Mapping[str, Any]) -> dict[str, Any]:
        """The mapping that is proposed for an upload, with the changes. Raises CommandError."""
        proposed = upload["mapping"]
        columns = {column["name"]: column["field"] or "ignore" for column in proposed["columns"]}
        chosen = proposed["id"]
        for change in self.fields:
            name, equals, field = change.rpartition("=")
            if not equals:
                raise CommandError(f"{change!r} is not COLUMN=FIELD", REFUSED)
            if name not in columns:
                raise CommandError(f"The file has no column {name!r}: it has {', '.join(map(repr, columns))}", REFUSED)
            if field == "customer_id":
                # The column takes the place of the one that was proposed.
                columns, chosen = _without_id(columns), None
            columns[name] = field
        if self.ids:
            columns = _without_id(columns)
            chosen = {"generate": True} if self.ids == GENERATE else {"column": self.ids}
        own = {"source": self.source} if self.source and not upload["source"] else {}
        return {
            "columns": columns,
            "id": chosen,
            "date_order": self.date_order or proposed["date_order"],
            "keep": list(self.keep) or proposed["keep"],
            "save": self.save,
            **own,
        }


def _without_id(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: "ignore" if field == "customer_id" else field for name, field in columns.items()}


def show(upload: Mapping[str, Any]) -> None:
    """Prints the columns of an upload's file."""
    mapping = upload["mapping"]
    if not mapping:
        raise CommandError("The upload has no column mapping: it has no file, or the file was not read yet", REFUSED)
    found = [
        {
            "column": column["name"],
            "samples": column["samples"],
            "field": column["field"] or "ignore",
            "sure": f"{column['confidence']:.0%}",
            "reason": column["reason"],
        }
        for column in mapping["columns"]
    ]
    screen.rows(f"columns of upload {upload['id']}", found, ("column", "samples", "field", "sure", "reason"))
    chosen = mapping["id"] or {}
    ids = f"the column {chosen['column']!r}" if "column" in chosen else "made from the content" if chosen else None
    facts = {"ids": ids, "date order": mapping["date_order"], "kept": mapping["keep"] or None}
    if known := {name: value for name, value in facts.items() if value}:
        screen.fields("mapping", known)


def preview(client: Api, upload: Mapping[str, Any], changes: Changes, *, json: bool) -> None:
    """Prints the first records of an upload as they will be stored with the changes."""
    if upload["status"] != "needs_mapping":
        raise CommandError(f"The upload does not wait for a column mapping: its status is {upload['status']}")
    shown = client.post(f"uploads/{upload['id']}/mapping/preview", changes.body(upload))
    if json:
        print(as_json(shown))
        return
    show(upload)
    rows = [{**one, **one.pop("attributes", {})} for one in shown["records"]]
    named = list(dict.fromkeys(name for row in rows for name in row if name != "attributes"))
    screen.rows(f"first records of upload {upload['id']}, as they will be stored", rows, named)
    if shown["rejected"]:
        screen.rows("rejected rows", shown["rejected"], ("line", "field", "reason"))
    err.print(
        f"Nothing is loaded yet. To load the file: dedup mapping {upload['id']} {changes.options}", soft_wrap=True
    )


def needed(upload: Mapping[str, Any], *, show_columns: bool) -> CommandError:
    """The error of an upload that waits for its mapping."""
    if show_columns:
        show(upload)
    number = upload["id"]
    return CommandError(
        f"The upload needs a column mapping. To load it as proposed: `dedup mapping {number} --accept`. To correct the "
        f"proposal: `dedup mapping {number} --set COLUMN=FIELD`",
        FAILED,
    )


def state(client: Api, upload: Mapping[str, Any], changes: Changes) -> None:
    """States the mapping of an upload, which continues then."""
    client.put(f"uploads/{upload['id']}/mapping", changes.body(upload))
