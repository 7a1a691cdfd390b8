"""The API that the commands of this process talk to."""

from . import profile
from .api import Api

_profile_name: list[str | None] = [None]


def select(name: str | None) -> None:
    """Selects a profile of the configuration file; None for the default."""
    _profile_name[0] = name


def api() -> Api:
    """The API of the selected profile. Raises CommandError."""
    return Api(profile.read(_profile_name[0]))
