"""A page and its files, of which a browser keeps each for good: it asks for them by their version."""

from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
SAFE = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
"""Headers of all that is served: it is what it says it is, is in no other page's frame, and tells nobody who asked."""


class Files:
    """Those of `paths` that are of MEDIA, by name. Where one of them, or a page, names another it ends in `?v=`: the
    version of all of them is put there."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = {path.name: path for path in sorted(paths) if path.suffix in MEDIA}

    @cached_property
    def _version(self) -> str:
        return sha256(b"".join(path.read_bytes() for path in self._paths.values())).hexdigest()[:16]

    def page(self, html: str, **headers: str) -> Response[str]:
        """The answer with a page that names the files."""
        return self._answer("text/html", html, {"Cache-Control": "no-cache"} | headers)

    def file(self, name: str, app: APIGatewayRestResolver) -> Response[str]:
        """The answer with a file, to be kept where the request has a version. Raises NotFoundError."""
        if name not in self._paths:
            raise NotFoundError("No such file")
        kept = "max-age=31536000, immutable" if app.current_event.query_string_parameters.get("v") else "no-cache"
        path = self._paths[name]
        return self._answer(MEDIA[path.suffix], path.read_text(), {"Cache-Control": kept})

    def _answer(self, media: str, text: str, headers: dict[str, str]) -> Response[str]:
        return Response(200, f"{media}; charset=utf-8", text.replace("?v=", f"?v={self._version}"), SAFE | headers)
