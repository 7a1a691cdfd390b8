"""Models of the status, health and page configuration operations."""

from pydantic import Field

from dedup.api.models.common import Model


class Service(Model):
    """That the API runs, and where its documentation is."""

    message: str
    status: str
    version: str
    docs: str


class Health(Model):
    """Whether the database answers."""

    status: str


class SignIn(Model):
    """Where people sign in by OpenID: the user pool's host, and the client that the page is there."""

    url: str
    client_id: str


class PageConfig(Model):
    """What the page is told of its deployment."""

    sources: tuple[str, ...]
    sign_in: SignIn | None = Field(description="None where nobody signs in, or requests are signed instead")
