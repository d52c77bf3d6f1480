"""Typed reading of untrusted metadata (a config.json, a GGUF header): a wrong type is BadWeights naming the key."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_runtime.base import BadWeights

_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Metadata:
    """A mapping by strangers, with typed getters; `where` names it in messages. A null value counts as absent."""

    values: Mapping[str, Any]
    where: str

    def has(self, key: str) -> bool:
        """Whether the key holds a value other than null."""
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number, 0 or more."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise self._wrong(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def string(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def strings(self, key: str) -> list[str]:
        """A list of strings."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of strings")
        return value

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers; a single number stands for a list of one, absence for an empty one."""
        value = self.values.get(key)
        items = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise self._wrong(key, value, "a whole number or a list of them")
        return items

    def flags(self, key: str) -> list[bool]:
        """A list of true and false."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, bool) for item in value):
            raise self._wrong(key, value, "a list of true and false")
        return value

    def child(self, key: str) -> Metadata:
        """A nested mapping; empty when absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(key, value, "an object")
        return Metadata(value or {}, f"{self.where}: {key}")

    def _wrong(self, key: str, value: object, wanted: str) -> BadWeights:
        return BadWeights(f"{self.where}: {key} must be {wanted}, not {str(value)[:80]!r}")
