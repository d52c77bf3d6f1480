"""Looks into the untyped depths of a Messages request, so that every complaint names the place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest


class Notes:
    """Remembers the first thing that the chat form of a request leaves out."""

    __slots__ = ("left_out",)

    def __init__(self) -> None:
        self.left_out: str | None = None

    def leave_out(self, where: str, what: str | None = None) -> None:
        """`where` is the field's path, `what` its value where that tells more."""
        if self.left_out is None:
            shown = f" ({what[:60]})" if what else ""
            self.left_out = f"'{where}'{shown} needs an endpoint that speaks the Messages API itself."


@dataclass(frozen=True, slots=True)
class Field:
    """An object somewhere in a request, and where."""

    value: dict[str, Any]
    where: str

    def at(self, name: str) -> str:
        """The path of a field of it."""
        return f"{self.where}.{name}"

    def wrong(self, name: str, expected: str) -> InvalidRequest:
        """The complaint about a field."""
        if name not in self.value:
            return InvalidRequest(f"Missing required field '{self.at(name)}'.", param=self.at(name))
        return InvalidRequest(f"'{self.at(name)}' must be {expected}.", param=self.at(name))

    def text(self, name: str) -> str:
        """A text that must be there."""
        found = self.value.get(name)
        if not isinstance(found, str):
            raise self.wrong(name, "a text")
        return found

    def optional_text(self, name: str) -> str | None:
        """A text, or None where it is absent or null."""
        return None if self.value.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        """A truth value, false where it is absent or null."""
        found = self.value.get(name)
        if found is not None and not isinstance(found, bool):
            raise self.wrong(name, "true or false")
        return bool(found)

    def object(self, name: str) -> Field:
        """An object that must be there."""
        found = self.value.get(name)
        if not isinstance(found, dict):
            raise self.wrong(name, "an object")
        return Field(found, self.at(name))

    def optional_object(self, name: str) -> Field | None:
        """An object, or None where it is absent or null."""
        return None if self.value.get(name) is None else self.object(name)

    def objects(self, name: str) -> list[Field]:
        """A list of objects that must be there."""
        found = self.value.get(name)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.wrong(name, "a list of objects")
        return [Field(one, f"{self.at(name)}[{place}]") for place, one in enumerate(found)]

    def only(self, *names: str, notes: Notes) -> None:
        """Note the first field beside these that says something."""
        for name, value in self.value.items():
            if name not in names and value is not None and value is not False:
                notes.leave_out(self.at(name))
