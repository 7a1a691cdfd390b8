"""A substitute for Auth=COGNITO: an OpenID provider with PKCE, and a gateway that requires its token."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests

CLIENT = "page"


class Gateway(ThreadingHTTPServer):
    """A gateway in front of the stack at `behind`. `sign_ins` counts sign-ins with the authorization page."""

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()
        self.sign_ins = self.refreshes = 0
        self.token_seconds = 3600


@contextmanager
def gateway(behind: str) -> Iterator[Gateway]:
    """A gateway that runs while the context does."""
    server = Gateway(behind)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/oauth2/authorize":
            self._authorize(dict(parse_qsl(url.query)))
        elif url.path == "/app/config.json":
            sign_in = {"url": self.server.url, "client_id": CLIENT}
            told = requests.get(f"{self.server.behind}/app/config.json", timeout=30).json()
            self._answer(200, told | {"sign_in": sign_in})
        else:
            self._pass_on()

    def do_POST(self) -> None:
        if self.path == "/oauth2/token":
            self._token(dict(parse_qsl(self._body().decode())))
        else:
            self._pass_on()

    def _authorize(self, asked: dict[str, str]) -> None:
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT
        code = secrets.token_urlsafe()
        self.server.codes[code] = asked
        self.server.sign_ins += 1
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        self.end_headers()

    def _token(self, given: dict[str, str]) -> None:
        if given["grant_type"] == "refresh_token":
            self.server.refreshes += 1
        else:
            asked = self.server.codes.pop(given["code"])
            digest = hashlib.sha256(given["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
                self._answer(400, {"error": "invalid_grant"})
                return
            assert given["redirect_uri"] == asked["redirect_uri"]
        token = secrets.token_urlsafe()
        self.server.tokens.add(token)
        seconds = self.server.token_seconds
        self._answer(200, {"access_token": token, "refresh_token": "again", "expires_in": seconds})

    def _pass_on(self) -> None:
        if self.path.startswith("/api/"):
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if token not in self.server.tokens:
                self._answer(401, {"title": "Unauthorized", "status": 401, "detail": "Unauthorized"})
                return
        kept = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Idempotency-Key")}
        answer = requests.request(
            self.command, self.server.behind + self.path, data=self._body(), headers=kept, timeout=30
        )
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Content-Security-Policy", "Link"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Logs nothing, since the tests look at the page in the browser."""
