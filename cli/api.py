"""The client of the HTTP API: signed requests, pagination, polling, and errors in one line."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from .errors import REFUSED, UNREACHABLE, CommandError
from .profile import Profile

SECONDS = (10.0, 40.0)
"""Timeouts to connect, and between two parts of a response. The gateway's own timeout is 29 s."""

PAGE = 1_000
"""Items requested at once: this many regions of 63 sources with long names fit into one response."""

POLL_SECONDS = (0.2, 3.0)
AT_REST = ("done", "failed", "deleted", "needs_mapping", "previewed", "held")
"""The statuses that change only if somebody does something."""

CHUNK = 1 << 20


class Api:
    """One API. All methods raise CommandError."""

    def __init__(self, profile: Profile) -> None:
        self._base = f"{profile.url}/"
        self._session = requests.Session()
        # Idempotent requests are repeated when the API is busy; after the last attempt its response is reported.
        retries = Retry(
            total=3, connect=0, read=0, status_forcelist=(429, 503), backoff_factor=0.3, raise_on_status=False
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))
        if profile.sign or profile.token:
            self._session.auth = _Signed(profile)
        else:
            # Or else requests would use the credentials of a .netrc.
            self._session.auth = lambda request: request

    def get(self, path: str, **query: Any) -> Any:
        """The response to GET /api/v1/`path`. A trailing _ of a parameter's name is removed: `in_` is `in`."""
        return _json(self._call("GET", path, params=_parameters(query)))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """The response to POST /api/v1/`path`. In the names of `headers`, _ stands for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _json(self._call("POST", path, json={} if body is None else body, headers=named))

    def put(self, path: str, body: Any) -> Any:
        """The response to PUT /api/v1/`path`."""
        return _json(self._call("PUT", path, json=body))

    def delete(self, path: str) -> Any:
        """The response to DELETE /api/v1/`path`."""
        return _json(self._call("DELETE", path))

    def raw(self, path: str, **query: Any) -> bytes:
        """The body of the response to GET /api/v1/`path`, of the media type `accept`."""
        accept = query.pop("accept")
        return self._call("GET", path, params=_parameters(query), headers={"Accept": accept}).content

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """The pages of the response to GET /api/v1/`path`."""
        return map(_json, self._pages(path, query))

    def items(self, path: str, most: int, **query: Any) -> tuple[list[Any], int]:
        """The first `most` items of the list at /api/v1/`path`, and the number of items in the list."""
        found: list[Any] = []
        total = 0
        for response in self._pages(path, {"limit": min(most, PAGE), **query}):
            found += _json(response)
            total = int(response.headers.get("X-Total-Count", len(found)))
            if len(found) >= most:
                break
        return found[:most], total

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[requests.Response]:
        response = self._call("GET", path, params=_parameters(query))
        while True:
            yield response
            link = response.links.get("next")
            if not link:
                return
            response = self._call("GET", link["url"])

    def poll(self, path: str, show: Callable[[Any], None], patience: float = inf) -> Any:
        """Requests the task at `path` until it has ended or waits for a decision, and calls `show` with each response;
        the last response.

        Raises CommandError if the response has not changed for `patience` seconds: a lost task would never end."""
        pause, longest = POLL_SECONDS
        last, since = None, 0.0
        while True:
            task = self.get(path)
            show(task)
            if task["status"] in AT_REST:
                return task
            if task != last:
                last, since = task, time.monotonic()
            elif time.monotonic() - since > patience:
                raise CommandError(_unchanged(path, task, patience), UNREACHABLE)
            time.sleep(pause)
            pause = min(pause * 1.2, longest)

    def send(self, file: IO[bytes], url: str) -> None:
        """Streams a file to a presigned URL."""
        response = _send(lambda: requests.put(url, data=file, timeout=(SECONDS[0], 600)))
        if not response.ok:
            raise CommandError(f"The bucket refused the file ({response.status_code}): {_line(response.text)}")

    def fetch(self, url: str, file: IO[bytes], moved: Callable[[int], None]) -> None:
        """Streams a presigned URL into a file, and calls `moved` with the bytes of each chunk."""
        with _send(lambda: requests.get(url, stream=True, timeout=SECONDS)) as response:
            if not response.ok:
                raise CommandError(f"The bucket refused the download ({response.status_code}): {_line(response.text)}")
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    moved(len(chunk))
            except requests.RequestException as error:
                raise CommandError(f"The download was interrupted ({type(error).__name__})", UNREACHABLE) from error

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        url = urljoin(f"{self._base}api/v1/", path)
        if not url.startswith(self._base):
            # A link to another host would send the signature there.
            raise CommandError(f"The API links to another address: {_line(url)}", UNREACHABLE)
        response = _send(
            lambda: self._session.request(method, url, timeout=SECONDS, allow_redirects=False, **options), self._base
        )
        if not response.ok:
            code = REFUSED if 400 <= response.status_code < 500 else UNREACHABLE
            raise CommandError(f"The API refused the request ({response.status_code}): {_reason(response)}", code)
        if response.is_redirect:
            raise CommandError(f"{self._base} responds with a redirect: is this the API?", UNREACHABLE)
        return response


class _Signed(requests.auth.AuthBase):
    """Adds to each request a bearer token, or else AWS's Signature Version 4."""

    def __init__(self, profile: Profile) -> None:
        self._token = profile.token
        if profile.token:
            return
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            session = Session(profile=profile.aws_profile)
            self._region = profile.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
            credentials = session.get_credentials()
        except BotoCoreError as error:
            raise CommandError(f"The configuration of AWS can't be used: {_line(str(error))}") from error
        if not self._region:
            raise CommandError("The request can't be signed: set `region` in the profile, or AWS_REGION")
        if not credentials:
            raise CommandError("The request can't be signed: there are no AWS credentials")
        self._credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            return request
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        body = request.body or b""
        signed = AWSRequest(request.method, request.url, data=body)
        SigV4Auth(self._credentials.get_frozen_credentials(), "execute-api", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request


def read_file(path: Path) -> tuple[int, str]:
    """The size of a file in bytes, and its SHA-256 in hexadecimal digits. Raises CommandError if the file can't be
    read."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from error


def open_output(path: Path) -> IO[bytes]:
    """A file to write to; - is standard output. Raises CommandError if it can't be written."""
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb") if str(path) == "-" else path.open("wb")
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}") from error


def _parameters(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in query.items() if value not in (None, "")}


def _send(request: Callable[[], requests.Response], base: str = "") -> requests.Response:
    host = base or "The bucket"
    try:
        return request()
    except requests.Timeout as error:
        raise CommandError(f"{host} did not respond in time", UNREACHABLE) from error
    except requests.exceptions.SSLError as error:
        raise CommandError(f"The certificate of {base or 'the bucket'} is not trusted", UNREACHABLE) from error
    except requests.ConnectionError as error:
        hint = "is `make run` running?" if "127.0.0.1" in base else "is the network available?"
        raise CommandError(f"{host} does not respond: {hint}", UNREACHABLE) from error
    except requests.RequestException as error:
        raise CommandError(f"The request to {base or 'the bucket'} failed: {_line(str(error))}", UNREACHABLE) from error


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise CommandError(f"{response.url} does not respond with JSON: is this the API?", UNREACHABLE) from error


def _reason(response: requests.Response) -> str:
    try:
        problem = response.json()
        detail = problem.get("detail") or problem.get("title") or problem.get("message")
    except (ValueError, AttributeError):
        return _line(response.text or response.reason)
    if isinstance(detail, list):
        errors = [f"{'.'.join(map(str, error['loc'][1:]))}: {error['msg']}" for error in detail]
        more = problem.get("total", len(errors)) - 5
        # The API stops counting at a hundred.
        number = f"at least {more}" if more >= 95 else str(more)
        detail = "; ".join(errors[:5]) + (f"; and {number} more" if more > 0 else "")
    return _line(str(detail))


def _unchanged(path: str, task: Mapping[str, Any], patience: float) -> str:
    known = ", ".join(f"{name} {task[name]}" for name in ("status", "rows", "reason") if task.get(name) is not None)
    listing = path.partition("/")[0]
    return f"{path} has not changed for {patience / 60:g} minutes: {known}. Check later with `dedup {listing}`"


def _line(text: str) -> str:
    return " ".join(text.split())[:500]


def as_json(response: Any) -> str:
    """The response as JSON in ASCII, so that no name can control the terminal."""
    return json.dumps(response, indent=2)
