"""JSON bodies of admin routes: read only once the caller is known, refused with the field's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.admission.terms import RefusedField
from gateway.api.raw import read_body
from gateway.errors import InvalidRequest
from gateway.state import Gateway

MAX_BYTES = 64 * 1024


class Body(BaseModel):
    """An object whose fields are all known."""

    model_config = ConfigDict(extra="forbid")


class TermsBody(Body):
    """What keys, teams and organisations have in common; in an update, what is left out stays as it is."""

    name: str = Field(default="", max_length=200)
    policy: str | None = None
    allowed_models: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class NewTermsBody(TermsBody):
    """Nothing exists without a name."""

    name: str = Field(min_length=1, max_length=200)


Given = TypeVar("Given", bound=Body)


def described_body(model: type[Body]) -> dict[str, Any]:
    """For `openapi_extra`: the body is no parameter of FastAPI's, which would read it before the caller is known."""
    schema = {"schema": model.model_json_schema()}
    return {"requestBody": {"content": {"application/json": schema}, "required": True}}


async def read_json(request: Request, gateway: Gateway, model: type[Given]) -> Given:
    """The body as what it should be; `InvalidRequest` with the field at fault otherwise."""
    body = await read_body(request.scope, request.receive, MAX_BYTES, gateway.settings.body_timeout_s)
    with faults_named():
        return model.model_validate_json(body)


@contextmanager
def faults_named() -> Iterator[None]:
    """`ValidationError` becomes the 400 that names the first field at fault."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        raise InvalidRequest(f"'{param or 'body'}': {first['msg']}.", param=param) from error


def given_fields(body: Body) -> Mapping[str, Any]:
    """What an update names."""
    return {name: getattr(body, name) for name in body.model_fields_set}


@contextmanager
def refusals() -> Iterator[None]:
    """`RefusedField` becomes the 400 that names the field."""
    try:
        yield
    except RefusedField as error:
        raise InvalidRequest(str(error), param=error.field) from error
