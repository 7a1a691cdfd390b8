"""Models of the status, health and page configuration operations."""

from pydantic import Field

from dedup.api.models.common import Model


class Service(Model):
    """The API's name and version, and the path of its documentation."""

    message: str
    status: str
    version: str
    docs: str


class Health(Model):
    """Whether the database is available."""

    status: str


class SignIn(Model):
    """The OpenID provider of the page: the URL of the user pool, and the page's client id."""

    url: str
    client_id: str


class PageConfig(Model):
    """The deployment's configuration of the page."""

    sources: tuple[str, ...]
    sign_in: SignIn | None = Field(description="Null if the deployment has no sign-in")
