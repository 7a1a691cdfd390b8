"""The operations of the API, read from template.yaml."""

from collections.abc import Iterator
from typing import NamedTuple

from samcli.yamlhelper import yaml_parse

from tests.conftest import ROOT


class Route(NamedTuple):
    """An operation, and the folder of its function."""

    method: str
    path: str
    function: str


def _routes() -> Iterator[Route]:
    for resource in yaml_parse((ROOT / "template.yaml").read_text())["Resources"].values():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            if event["Type"] == "Api":
                folder = resource["Properties"]["CodeUri"].rstrip("/").rpartition("/")[2]
                yield Route(event["Properties"]["Method"].upper(), event["Properties"]["Path"], folder)


ROUTES = sorted(_routes())
