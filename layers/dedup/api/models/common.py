"""Types shared by the models of several domains, and the error model."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from dedup.records import Source
from dedup.settings import MAX_SOURCES
from dedup.validation import MAX_ERRORS, Request, at_most

Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
AsOf = Annotated[int, Field(ge=0, description="Entry of the change log up to which the entities contain all changes")]
Unresolved = Annotated[int, Field(ge=0, description="Number of changed records that the entities do not contain yet")]
TaskStatus = Literal["waiting", "running", "done", "failed"]
Sources = Annotated[list[Source], Field(max_length=MAX_SOURCES), at_most(MAX_SOURCES)]


class Model(BaseModel, defer_build=True):
    """Base of all response models. Each model is built on first use, because a function uses only a few of them."""


class RequestModel(Model, Request, extra="forbid"):
    """Base of request models. Unknown fields are refused."""


class InvalidField(Model):
    """A validation error: `loc` is the path of the field, `msg` the message, `type` the kind of error."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Model):
    """An error (RFC 9457). If the request is not valid, `detail` lists the first 100 validation errors."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | list[InvalidField]
    total: Count | None = Field(
        default=None,
        description=f"The number of validation errors found. If it is {MAX_ERRORS} or more, there may be others, "
        "because validation of a list of records stops at the record that reaches this number.",
    )
