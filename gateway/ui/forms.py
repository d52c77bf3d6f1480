"""From a form's texts to the body that the JSON routes take; what is refused, to the field it is shown at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from gateway.api.admin.bodies import Body, faults_named
from gateway.errors import InvalidRequest

Given = TypeVar("Given", bound=Body)


def body_of(model: type[Given], fields: Mapping[str, Any]) -> Given:
    """The same body, checked by the same rules; `InvalidRequest` names the first field at fault."""
    with faults_named():
        return model.model_validate(fields)


def faults_of(error: InvalidRequest) -> dict[str, str]:
    """For templates: the field's name to what is wrong with it; '' for what no field is to blame for."""
    field, message = error.param or "", error.message
    said = message.removeprefix(f"'{field}': ") if field else message
    return {field.split(".")[0]: said[:1].upper() + said[1:]}


def moment_of(text: str, field: str) -> datetime | None:
    """What `<input type="datetime-local">` sends, in UTC; None where it is empty."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("Give a date and a time, such as 2030-12-31T18:00 (UTC).", param=field) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def lines_of(text: str) -> tuple[str, ...]:
    """What stands in lines or between commas."""
    return tuple(filter(None, (part.strip() for part in text.replace(",", "\n").splitlines())))
