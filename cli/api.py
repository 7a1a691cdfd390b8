"""The HTTP API as the command asks it: signed where that is wanted, page after page, errors in one line."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

if TYPE_CHECKING:
    from .profile import Profile

SECONDS = (10.0, 40.0)
"""To connect, and between two pieces of an answer: the gateway gives up after 29."""

PAGE = 1_000
"""Items that are asked for at once: so many regions of 63 sources with long names fit into one answer."""

POLL_SECONDS = (0.2, 3.0)
CHUNK = 1 << 20

ENDED_BADLY, REFUSED, UNREACHABLE = 1, 3, 4


class Fault(Exception):
    """What the person at the terminal has to know, in one line; `code` is the command's exit code."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """One API. Every call raises Fault."""

    def __init__(self, profile: "Profile") -> None:
        self._profile = profile
        self._base = f"{profile.url}/"
        self._session = requests.Session()
        # What is busy is asked again, where asking twice changes nothing; the first answer that is kept is the last.
        again = Retry(
            total=3, connect=0, read=0, status_forcelist=(429, 503), backoff_factor=0.3, raise_on_status=False
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again))
        if profile.sign or profile.token:
            self._session.auth = _Signed(profile)
        else:
            # Nor what a .netrc says of this host.
            self._session.auth = lambda request: request

    def get(self, path: str, **query: Any) -> Any:
        """The answer to GET /api/v1/`path`."""
        return _json(self._call("GET", path, params=_said(query)))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """The answer to POST /api/v1/`path`; `headers` are named with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _json(self._call("POST", path, json={} if body is None else body, headers=named))

    def raw(self, path: str, **query: Any) -> bytes:
        """The bytes of the answer to GET /api/v1/`path`, whose type `accept` names."""
        accept = query.pop("accept")
        return self._call("GET", path, params=_said(query), headers={"Accept": accept}).content

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """The answers to GET /api/v1/`path`, page after page."""
        return map(_json, self._pages(path, query))

    def items(self, path: str, most: int, **query: Any) -> tuple[list[Any], int]:
        """The first `most` items of a list at /api/v1/`path`, page after page, and how many the list has."""
        found: list[Any] = []
        total = 0
        for answer in self._pages(path, {"limit": min(most, PAGE), **query}):
            found += _json(answer)
            total = int(answer.headers.get("X-Total-Count", len(found)))
            if len(found) >= most:
                break
        return found[:most], total

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[requests.Response]:
        answer = self._call("GET", path, params=_said(query))
        while True:
            yield answer
            link = answer.links.get("next")
            if not link:
                return
            answer = self._call("GET", link["url"])

    def follow(self, path: str, shown: Callable[[Any], None], patience: float = inf) -> Any:
        """GET `path` again and again until its `status` says that it ended; each answer goes to `shown`. Raises Fault
        as well where the answer has stayed the same for `patience` seconds: what is lost on its way never ends."""
        pause, longest = POLL_SECONDS
        last, since = None, 0.0
        while True:
            answer = self.get(path)
            shown(answer)
            if answer["status"] in ("done", "failed", "deleted"):
                return answer
            if answer != last:
                last, since = answer, time.monotonic()
            elif time.monotonic() - since > patience:
                raise Fault(_stuck(path, answer, patience), UNREACHABLE)
            time.sleep(pause)
            pause = min(pause * 1.2, longest)

    def send(self, file: IO[bytes], url: str) -> None:
        """PUT a file at a presigned URL, piece by piece."""
        answer = _asked(lambda: requests.put(url, data=file, timeout=(SECONDS[0], 600)))
        if not answer.ok:
            raise Fault(f"The bucket refused the file ({answer.status_code}): {_line(answer.text)}")

    def fetch(self, url: str, file: IO[bytes], moved: Callable[[int], None]) -> None:
        """GET a presigned URL into a file, piece by piece; `moved` hears of each piece's bytes."""
        with _asked(lambda: requests.get(url, stream=True, timeout=SECONDS)) as answer:
            if not answer.ok:
                raise Fault(f"The bucket refused to give the file ({answer.status_code}): {_line(answer.text)}")
            try:
                for piece in answer.iter_content(CHUNK):
                    file.write(piece)
                    moved(len(piece))
            except requests.RequestException as error:
                raise Fault(f"The download broke off ({type(error).__name__})", UNREACHABLE) from error

    def _call(self, method: str, path: str, **how: Any) -> requests.Response:
        url = urljoin(f"{self._base}api/v1/", path)
        if not url.startswith(self._base):
            # A link that leads elsewhere would carry the signature there.
            raise Fault(f"The API links to another address: {_line(url)}", UNREACHABLE)
        answer = _asked(
            lambda: self._session.request(method, url, timeout=SECONDS, allow_redirects=False, **how), self._base
        )
        if not answer.ok:
            code = REFUSED if 400 <= answer.status_code < 500 else UNREACHABLE
            raise Fault(f"The API refused it ({answer.status_code}): {_reason(answer)}", code)
        if answer.is_redirect:
            raise Fault(f"{self._base} answers with a redirect: is this the API?", UNREACHABLE)
        return answer


class _Signed(requests.auth.AuthBase):
    """Signs each request as it is sent: by token, or AWS's Signature Version 4 as botocore makes it."""

    def __init__(self, profile: "Profile") -> None:
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
            raise Fault(f"AWS's settings can't be used: {_line(str(error))}") from error
        if not self._region:
            raise Fault("The request can't be signed: say the region in the profile or as AWS_REGION")
        if not credentials:
            raise Fault("The request can't be signed: there are no AWS credentials")
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


def read_file(path: Path) -> int:
    """The size in bytes of a file that can be read. Raises Fault."""
    try:
        with path.open("rb"):
            return path.stat().st_size
    except OSError as error:
        raise Fault(f"{path} can't be read: {error.strerror}") from error


def _said(query: Mapping[str, Any]) -> dict[str, Any]:
    # `in` is a word of Python's.
    return {name.rstrip("_"): value for name, value in query.items() if value not in (None, "")}


def _asked(ask: Callable[[], requests.Response], base: str = "") -> requests.Response:
    try:
        return ask()
    except requests.Timeout as error:
        raise Fault(f"{base or 'The bucket'} did not answer in time", UNREACHABLE) from error
    except requests.exceptions.SSLError as error:
        raise Fault(f"{base or 'The bucket'} has no certificate that is trusted", UNREACHABLE) from error
    except requests.ConnectionError as error:
        hint = "is `make run` running?" if "127.0.0.1" in base else "is there a network?"
        raise Fault(f"{base or 'The bucket'} does not answer: {hint}", UNREACHABLE) from error
    except requests.RequestException as error:
        raise Fault(f"{base or 'The bucket'} can't be asked: {_line(str(error))}", UNREACHABLE) from error


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise Fault(f"{answer.url} answers with something else than JSON: is this the API?", UNREACHABLE) from error


def _reason(answer: requests.Response) -> str:
    try:
        problem = answer.json()
        detail = problem.get("detail") or problem.get("title") or problem.get("message")
    except (ValueError, AttributeError):
        return _line(answer.text or answer.reason)
    if isinstance(detail, list):
        faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in detail]
        more = problem.get("total", len(faults)) - 5
        # Nobody counts further than to a hundred.
        detail = (
            "; ".join(faults[:5]) + (f"; and {more} more" if more > 0 else "") + (" at least" if more >= 95 else "")
        )
    return _line(str(detail))


def _stuck(path: str, answer: Mapping[str, Any], patience: float) -> str:
    known = ", ".join(f"{name} {answer[name]}" for name in ("status", "rows", "reason") if answer.get(name) is not None)
    listing = path.partition("/")[0]
    return f"{path} has not changed for {patience / 60:g} minutes: {known}. It may still end: `dedup {listing}` says so"


def _line(text: str) -> str:
    return " ".join(text.split())[:500]


def as_json(answer: Any) -> str:
    """JSON in ASCII: whatever a name holds, a terminal shows it and does nothing else."""
    return json.dumps(answer, indent=2)
