"""template.yaml, and the operations of the API in it."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from samcli.yamlhelper import TIMESTAMP_TAG, intrinsics_multi_constructor

from tests.conftest import ROOT


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    """Reads what SAM CLI's `yaml_parse` reads, ten times as fast: most test processes read the template."""


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)
_Loader.add_constructor(TIMESTAMP_TAG, yaml.CSafeLoader.construct_yaml_str)


class Route(NamedTuple):
    """An operation, and the folder of its function."""

    method: str
    path: str
    function: str


def read_template(path: Path = ROOT / "template.yaml") -> dict[str, Any]:
    """The content of a template, with intrinsic functions such as !Ref as dictionaries. The caller may change it."""
    return deepcopy(_parse(path))


@cache
def _parse(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(path.read_text(), _Loader)
    return parsed


def _routes() -> Iterator[Route]:
    for resource in _parse(ROOT / "template.yaml")["Resources"].values():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            if event["Type"] == "Api":
                folder = resource["Properties"]["CodeUri"].rstrip("/").rpartition("/")[2]
                yield Route(event["Properties"]["Method"].upper(), event["Properties"]["Path"], folder)


ROUTES = sorted(_routes())
