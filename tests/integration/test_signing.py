"""The README's signed calls, against a listener that recomputes their signatures as API Gateway does."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.conftest import ROOT

REGION, SERVICE = "eu-west-1", "execute-api"
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session+token/=="
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/[^,]+, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)


def is_signed(method: str, url: str, headers: dict[str, str]) -> bool:
    """Whether the request bears the signature that the secret gives it, over its host, date and token at least."""
    stated = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not stated or not {"host", "x-amz-date", "x-amz-security-token"} <= set(stated[1].split(";")):
        return False
    request = AWSRequest(method, url, {name: headers[name] for name in stated[1].split(";")})
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials(KEY, SECRET, TOKEN), SERVICE, REGION)
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request) == stated[2]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A stage that answers whoever signed."""

    class Stage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            signed = is_signed("GET", f"http://{headers['host']}{self.path}", headers)
            body = b'{"unique_customers": 8}' if signed else b'{"message": "Forbidden"}'
            self.send_response(200 if signed else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stage)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live"
    server.shutdown()
    server.server_close()


def snippet(language: str) -> str:
    """The code block of that language in the README's section on calling it on AWS."""
    section = (ROOT / "README.md").read_text().split("### Calling it on AWS")[1]
    [code] = re.findall(rf"```{language}\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    return str(code)


def run(command: list[str], endpoint: str, secret: str = SECRET) -> str:
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": TOKEN}
    region = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    environment = os.environ | credentials | region | {"ENDPOINT": endpoint}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(
    not shutil.which("curl") or "aws-sigv4" not in subprocess.getoutput("curl --help all"),
    reason="this curl does not sign",
)
def test_curl_of_the_readme_is_signed(endpoint: str) -> None:
    answer = run(["sh", "-c", snippet("sh").partition("\n\n")[0].replace("curl ", "curl -s ")], endpoint)

    assert "unique_customers" in answer


def test_python_of_the_readme_is_signed(endpoint: str) -> None:
    answer = run([sys.executable, "-c", snippet("python")], endpoint)

    assert "unique_customers" in answer


def test_another_secret_is_seen(endpoint: str) -> None:
    assert "Forbidden" in run([sys.executable, "-c", snippet("python")], endpoint, secret="another")
