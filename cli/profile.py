"""Where the API is and who asks: from the environment, else from a profile in a file.

# ~/.config/dedup/config.toml
[default]
url = "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/live"
region = "eu-west-1"       # else the one in the address, else AWS's own settings
aws_profile = "analyst"    # else AWS's own settings
sign = true                # else where the address is API Gateway's
"""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .api import Fault

LOCAL = "http://127.0.0.1:3000"
_GATEWAY = re.compile(r"[a-z0-9]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_FIELDS = {"url": str, "region": str, "aws_profile": str, "sign": bool}


@dataclass(frozen=True)
class Profile:
    """One API and how to ask it. `url` ends without a slash; `token` is what people who sign in by OpenID have."""

    url: str
    sign: bool
    region: str | None = None
    aws_profile: str | None = None
    token: str | None = None


def read(name: str | None) -> Profile:
    """The profile of that name, or `default`, with what the environment says over it. Raises Fault.

    DEDUP_URL takes the place of the file unless a profile is named."""
    url = os.environ.get("DEDUP_URL")
    found = {} if url and not name else _from_file(name)
    url = (url or str(found.get("url") or LOCAL)).rstrip("/")
    host = urlsplit(url).hostname
    if not url.startswith(("http://", "https://")) or not host:
        raise Fault(f"{url} is no address: expected http://… or https://…")
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
    """Where the profiles are."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(os.environ.get("DEDUP_CONFIG") or Path(folder, "dedup", "config.toml"))


def _from_file(name: str | None) -> dict[str, str]:
    path = config_file()
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        profiles = {}
    except (OSError, ValueError) as error:
        raise Fault(f"{path} can't be read: {error}") from error
    if name and name not in profiles:
        raise Fault(f"There is no profile {name} in {path}")
    found = profiles.get(name or "default", {})
    for field, value in found.items() if isinstance(found, dict) else [("a profile", found)]:
        if not isinstance(value, _FIELDS.get(field, ())):
            raise Fault(f"{path}: {field} = {value!r} is not understood: expected {', '.join(_FIELDS)}")
    return dict(found)
