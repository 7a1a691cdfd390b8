"""`make openapi`: writes functions/system/docs/openapi.json, the document of the whole API, from the functions' code.

The documentation's function serves it: on AWS it has none of the other functions' sources. Powertools merges what the
functions say of themselves; here is what Powertools does not say, or says wrongly.
"""

import json
import re
import warnings
from typing import Any

from aws_lambda_powertools.event_handler.openapi.merge import OpenAPIMerge
from aws_lambda_powertools.event_handler.openapi.models import Tag
from dedup.settings import VERSION, Settings

from local import ROOT

DOCUMENT = ROOT / "functions" / "system" / "docs" / "openapi.json"
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
SOURCE = {"$ref": "#/components/schemas/Source"}
SOURCE_LISTS = ("in", "not_in", "region")
"""Query parameters that name sources, separated by commas."""

DESCRIPTION = """\
Counts every customer once, across the systems that have them.

A **record** is one customer as one **source** sent it; a **customer** is a distinct `customer_id`, however many records
it has. Which sources there are is configuration.

**Pages.** A list is at most `limit` items long. Where there is more, the answer has a header
`Link: <…>; rel="next"` (RFC 8288): follow it as it is. A walk over all pages gives each item once, also while others
upload, unless the list says otherwise.

**Retries.** Send an `Idempotency-Key` of your own making with a POST, and the same key with each retry: what it uploads
is stored once, and every try gets the first answer.

**Errors** are `application/problem+json` (RFC 9457). The gateway in front answers in the same shape: 404 for an unknown
path or method, 429 when there are too many requests, 502 to 504 when the service behind it fails.
"""

TAGS = {
    "Customers": "Upload, list and delete records",
    "Deduplication": "Questions about customers and the sources that have them",
    "Uploads": "Load files, and see what became of them",
    "Exports": "Have customers and their records written to a file",
    "Matching": "Find which records are one person under different ids, and decide what nobody is sure of",
    "Entities": "The people that the matching found: who they are, and why",
    "Service": "The service itself and its documentation",
}

EXAMPLES = {"customer_id": 101, "name": "Ada Lindqvist", "email": "ada.lindqvist@example.com"}
"""By field: what a page that sends requests fills in is accepted."""

ONLY_IN = {"salesforce": [101], "hubspot": [106], "internal": [107, 108]}
COMPARISON = {
    "in_all_sources": [],
    "in_all_sources_count": 0,
    **{f"only_in_{source}": ids for source, ids in ONLY_IN.items()},
    **{f"only_in_{source}_count": len(ids) for source, ids in ONLY_IN.items()},
    **{f"{source}_count": 4 for source in ONLY_IN},
}
"""The fields of the sources have no schema of their own."""


def document() -> dict[str, Any]:
    """The OpenAPI document, with the sources of a new clone: they are replaced, and a server named, when it is served.

    Raises UserWarning where a function can't be imported, and OpenAPIMergeError where two have the same route."""
    merge = OpenAPIMerge(
        title="Customer Deduplication API",
        version=VERSION,
        description=DESCRIPTION,
        tags=[Tag(name=name, description=description) for name, description in TAGS.items()],
        on_conflict="error",
    )
    merge.discover(ROOT / "functions", "app.py", recursive=True)
    with warnings.catch_warnings():
        # A function that can't be imported is otherwise left out with a warning.
        warnings.simplefilter("error", UserWarning)
        merged: dict[str, Any] = json.loads(merge.get_openapi_json_schema())
    del merged["servers"]
    merged["paths"] = {path: _item(path, item) for path, item in sorted(merged["paths"].items())}
    schemas = {name: _schema(schema) for name, schema in merged["components"]["schemas"].items()}
    for unused in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        del schemas[unused]
    schemas["Comparison"]["examples"] = [COMPARISON]
    schemas["Source"] = {
        "type": "string",
        "description": "A system that records come from",
        "enum": list(Settings.model_fields["sources"].default),
    }
    merged["components"]["schemas"] = dict(sorted(schemas.items()))
    return merged


def text() -> str:
    """The document as its file has it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file."""
    DOCUMENT.write_text(text(), encoding="utf-8")


def _item(path: str, item: dict[str, Any]) -> dict[str, Any]:
    tag = path.split("/")[3].title() if path.startswith("/api/") else "Service"
    return {
        method: _operation(operation, path, method, tag) for method, operation in sorted(item.items(), reverse=True)
    }


def _operation(operation: dict[str, Any], path: str, method: str, tag: str) -> dict[str, Any]:
    # Powertools adds the path and the method to the function's name, and a 422 of a shape of its own.
    name = operation["operationId"].removesuffix(re.sub(r"\W", "_", path) + f"_{method}")
    responses = {
        status: _schema(response)
        for status, response in sorted(operation.pop("responses").items())
        if "HTTPValidationError" not in json.dumps(response)
    }
    if "parameters" in operation:
        operation["parameters"] = [_parameter(parameter) for parameter in operation["parameters"]]
    return operation | {"operationId": name, "tags": [tag], "responses": responses}


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = _schema(parameter["schema"])
    # A parameter that is left out is none; there is no null in an address or a header.
    schema = schema.get("anyOf", [schema])[0]
    schema.pop("description", None)
    if parameter["in"] == "header":
        parameter["name"] = parameter["name"].title()
    elif parameter["name"] == "source":
        schema = SOURCE
    elif parameter["name"] in SOURCE_LISTS:
        parameter |= {"style": "form", "explode": False}
        schema = {"type": "array", "items": SOURCE}
    return parameter | {"schema": schema}


def _schema(node: Any) -> Any:
    """A schema, or what holds some, without titles that repeat names, and with bounds of integers that are integers."""
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _schema(value) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if node.get("type") == "integer":
        bounds = {key: int(node.pop(key)) for key in BOUNDS if key in node}
        node |= {"format": "int64"} | {key: bound for key, bound in bounds.items() if abs(bound) < 2**63}
    fields = node.get("properties", {})
    fields |= {name: fields[name] | {"examples": [example]} for name, example in EXAMPLES.items() if name in fields}
    if "source" in fields:
        either = fields["source"].get("anyOf")
        fields["source"] = {**fields["source"], "anyOf": [SOURCE, *either[1:]]} if either else SOURCE
    for name in ("sources", *SOURCE_LISTS):
        if name in fields:
            fields[name]["items"] = SOURCE
    return node


if __name__ == "__main__":
    main()
