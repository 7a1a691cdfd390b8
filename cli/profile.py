"""The address of the API and how to sign requests to it: from the environment, otherwise from a profile in a file.

# ~/.config/dedup/config.toml
[default]
url = "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/live"
region = "eu-west-1"       # otherwise the region in the address, then AWS's configuration
aws_profile = "analyst"    # otherwise AWS's configuration
sign = true                # otherwise only if the address is API Gateway's
"""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import CommandError

LOCAL = "http://127.0.0.1:3000"
_GATEWAY = re.compile(r"[a-z0-9]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_FIELDS = {"url": str, "region": str, "aws_profile": str, "sign": bool}
_EXPECTED = "strings for url, region and aws_profile, and true or false for sign"


@dataclass(frozen=True)
class Profile:
    """The address of an API, without a trailing slash, and how to sign requests to it.

    `token` is a bearer token of OpenID Connect; with one, requests are not signed."""

    url: str
    sign: bool
    region: str | None = None
    aws_profile: str | None = None
    token: str | None = None


def read(name: str | None) -> Profile:
    """The profile `name`, or `default` if it is None. Raises CommandError.

    Without a name, DEDUP_URL replaces the file. Other environment variables override the profile."""
    url = os.environ.get("DEDUP_URL")
    found = {} if url and not name else _from_file(name)
    url = (url or str(found.get("url") or LOCAL)).rstrip("/")
    host = urlsplit(url).hostname
    if not url.startswith(("http://", "https://")) or not host:
        raise CommandError(f"{url} is not an address: expected http://… or https://…")
    gateway = _GATEWAY.fullmatch(host)
    token = os.environ.get("DEDUP_TOKEN")
    return Profile(
        url,
        sign=not token and bool(found.get("sign", gateway or os.environ.get("DEDUP_SIGN"))),
        region=found.get("region") or (gateway[1] if gateway else None),
        aws_profile=found.get("aws_profile"),
        token=token,
    )


def config_file() -> Path:
    """The path of the file with the profiles."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(os.environ.get("DEDUP_CONFIG") or Path(folder, "dedup", "config.toml"))


def _from_file(name: str | None) -> dict[str, str]:
    path = config_file()
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        profiles = {}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} can't be read: {error}") from error
    if name and name not in profiles:
        raise CommandError(f"There is no profile {name} in {path}")
    found = profiles.get(name or "default", {})
    for field, value in found.items() if isinstance(found, dict) else [("a profile", found)]:
        if not isinstance(value, _FIELDS.get(field, ())):
            raise CommandError(f"{path}: {field} = {value!r} is not valid: expected {_EXPECTED}")
    return dict(found)
