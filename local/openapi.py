"""`make openapi`: writes functions/system/docs/openapi.json, the document of the whole API, from the functions' code.

The function Docs serves the file, since it does not contain the code of the other functions. Powertools merges the
documents of the functions; this module adds and corrects what Powertools misses or gets wrong.
"""

import json
import re
import warnings
from typing import Any

from aws_lambda_powertools.event_handler.openapi.merge import OpenAPIMerge
from aws_lambda_powertools.event_handler.openapi.models import Tag
from dedup.api.freshness import APPLIED, MAX_WAIT, PREFER
from dedup.settings import VERSION, Settings

from local import ROOT

DOCUMENT = ROOT / "functions" / "system" / "docs" / "openapi.json"
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
SOURCE = {"$ref": "#/components/schemas/Source"}
SOURCE_LISTS = ("in", "not_in", "region")
"""Query parameters that name sources, separated by commas."""

DESCRIPTION = """\
Counts each customer once, across all systems that have records of them.

A **record** is one customer as one **source** sent it. A **customer** is a distinct `customer_id`, however many records
it has. The sources are configured.

**Pagination.** A list has at most `limit` items. If there are more, the response has a header
`Link: <…>; rel="next"` (RFC 8288): request that URL unchanged. The pages contain each item once, even during uploads,
unless the operation says otherwise.

**Retries.** Send a unique `Idempotency-Key` with a POST, and the same key with each retry: the content is stored once,
and every attempt gets the first response.

**Entities** follow records after a moment. Answers by entity say how far they are up to date, in the fields `as_of` and
`unresolved_records`, and lists in the headers `X-As-Of` and `X-Unresolved-Records`.

**Errors** are `application/problem+json` (RFC 9457). The gateway uses the same format: 404 for an unknown path or
method, 429 for too many requests, 502 to 504 if the service fails.
"""

TAGS = {
    "Customers": "Upload, list and delete records",
    "Deduplication": "Count and compare the customers of the sources",
    "Uploads": "Load files, state which column feeds which field, and list uploads",
    "Sources": "Column mappings that are saved for the files of a source",
    "Exports": "Write customers and their records to files",
    "Matching": "Find records of the same entity under different ids, and review uncertain pairs",
    "Entities": "The entities that matching found, with the evidence",
    "Service": "The service itself and its documentation",
}

WAIT = {
    "name": PREFER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "examples": ["wait=5"]},
    "description": f"`wait=N` waits at most N seconds, from 1 to {MAX_WAIT}, until the entities contain all changes "
    "that are committed (RFC 7240)",
}
"""The header of operations that wait. A preference that is malformed is ignored, so Powertools does not validate it."""

EXAMPLES = {
    "customer_id": 101,
    "name": "Ada Lindqvist",
    "email": "ada.lindqvist@example.com",
    "emails": ["ada.lindqvist@example.com", "ada@example.org"],
    "phones": ["+1 202-555-0101", "+1 202-555-0102"],
    "modified_at": "2026-11-24T06:33:18Z",
    "attributes": {"Lifecycle Stage": "Lead"},
}
"""Examples by field. Documentation pages fill them in, and the API accepts them."""

ONLY_IN = {"salesforce": [101], "hubspot": [106], "internal": [107, 108]}
COMPARISON = {
    "in_all_sources": [],
    "in_all_sources_count": 0,
    **{f"only_in_{source}": ids for source, ids in ONLY_IN.items()},
    **{f"only_in_{source}_count": len(ids) for source, ids in ONLY_IN.items()},
    **{f"{source}_count": 4 for source in ONLY_IN},
}
"""An example of the response, whose fields depend on the sources."""


def document() -> dict[str, Any]:
    """The OpenAPI document, with the default sources. When it is served, these are replaced and a server is added.

    Raises UserWarning if a function can't be imported, and OpenAPIMergeError if two functions have the same route."""
    merge = OpenAPIMerge(
        title="Customer Deduplication API",
        version=VERSION,
        description=DESCRIPTION,
        tags=[Tag(name=name, description=description) for name, description in TAGS.items()],
        on_conflict="error",
    )
    merge.discover(ROOT / "functions", "app.py", recursive=True)
    with warnings.catch_warnings():
        # Or else functions that can't be imported would be left out with a warning.
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
    """The content of the file."""
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
    # Powertools adds the path and the method to the name of the operation, and a 422 in another format.
    name = operation["operationId"].removesuffix(re.sub(r"\W", "_", path) + f"_{method}")
    responses = {
        status: _schema(response)
        for status, response in sorted(operation.pop("responses").items())
        if "HTTPValidationError" not in json.dumps(response)
    }
    parameters = [_parameter(parameter) for parameter in operation.get("parameters", [])]
    if any(APPLIED in response.get("headers", {}) for response in responses.values()):
        parameters.append(WAIT)
    if parameters:
        operation["parameters"] = parameters
    return operation | {"operationId": name, "tags": [tag], "responses": responses}


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = _schema(parameter["schema"])
    # An omitted parameter is None, but URLs and headers have no null.
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
    """A schema, or a value that contains schemas, without titles that repeat names, and with integer bounds."""
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
