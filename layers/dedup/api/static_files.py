"""Serves a page and its files. A browser caches the files permanently, because their URLs contain a version."""

from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
SAFE = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
"""Security headers of every response: no MIME sniffing, no frames, no referrer."""


class Files:
    """The files of `paths` that have a media type in MEDIA, by name. In these files and in pages, `?v=` at the end of a
    URL is replaced by `?v=` and the version, which is a digest of all files."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = {path.name: path for path in sorted(paths) if path.suffix in MEDIA}

    @cached_property
    def _version(self) -> str:
        return sha256(b"".join(path.read_bytes() for path in self._paths.values())).hexdigest()[:16]

    def page(self, html: str, **headers: str) -> Response[str]:
        """Returns a page that refers to the files."""
        return self._respond("text/html", html, {"Cache-Control": "no-cache"} | headers)

    def file(self, name: str, app: APIGatewayRestResolver) -> Response[str]:
        """Returns a file, cacheable if the request has a version. Raises NotFoundError."""
        if name not in self._paths:
            raise NotFoundError("File not found")
        cached = "max-age=31536000, immutable" if app.current_event.query_string_parameters.get("v") else "no-cache"
        path = self._paths[name]
        return self._respond(MEDIA[path.suffix], path.read_text(), {"Cache-Control": cached})

    def _respond(self, media: str, text: str, headers: dict[str, str]) -> Response[str]:
        return Response(200, f"{media}; charset=utf-8", text.replace("?v=", f"?v={self._version}"), SAFE | headers)
