"""Types that the models of several domains share, and the error model."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from dedup.records import Source
from dedup.settings import MAX_SOURCES
from dedup.validation import MAX_ERRORS, Request, at_most

Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
TaskStatus = Literal["waiting", "running", "done", "failed"]
Sources = Annotated[list[Source], Field(max_length=MAX_SOURCES), at_most(MAX_SOURCES)]


class Model(BaseModel, defer_build=True):
    """What the models here are. Each is built when it is first used, for a function uses a few of them."""


class Question(Model, Request, extra="forbid"):
    """What the bodies of requests here are: a field that is unknown is refused."""


class InvalidField(Model):
    """One thing wrong with a request: where, why, and the kind of error."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Model):
    """An error, as RFC 9457 shapes it. A validation error lists the first 100 validation errors in `detail`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | list[InvalidField]
    total: Count | None = Field(
        default=None,
        description=f"How many validation errors were found. From {MAX_ERRORS} on there may be more: a list of records "
        "is validated no further than to the record that brings them to that number.",
    )
