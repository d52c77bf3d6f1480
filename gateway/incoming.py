"""What a request says beside its body: headers that the gateway itself reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.admission.rules import Caller
from gateway.errors import InvalidRequest
from gateway.ledger.record import Record

MAX_TAGS = 8
MAX_TAG_CHARS = 64
LONGEST_TIMEOUT_S = 3600.0


@dataclass(slots=True)
class Incoming:
    """An authenticated request; `started` is `perf_counter()` at its arrival, `passed_on` what travels upstream."""

    body: bytes
    caller: Caller
    record: Record
    started: float
    headers: dict[bytes, bytes]
    passed_on: tuple[tuple[str, str], ...] = ()

    def text(self, name: bytes) -> str:
        """A header's value, empty where absent."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    @property
    def tags(self) -> tuple[str, ...]:
        """The key's own tags and those of `x-fingerpost-tags: a, b`; `InvalidRequest` for unusable ones."""
        given = self.headers.get(b"x-fingerpost-tags")
        if not given:
            return self.caller.tags
        named = tuple(one.strip() for one in given.decode("latin-1").split(",") if one.strip())
        if len(named) > MAX_TAGS or any(len(one) > MAX_TAG_CHARS or not one.isprintable() for one in named):
            raise InvalidRequest(
                f"'x-fingerpost-tags' takes at most {MAX_TAGS} tags of {MAX_TAG_CHARS} printable characters.",
                param="x-fingerpost-tags",
            )
        return tuple(dict.fromkeys(self.caller.tags + named))

    @property
    def timeout_s(self) -> float | None:
        """`x-fingerpost-timeout`: seconds within which the answer must have begun; None where absent."""
        given = self.text(b"x-fingerpost-timeout")
        if not given:
            return None
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= LONGEST_TIMEOUT_S:
            raise InvalidRequest(
                f"'x-fingerpost-timeout' must be a number of seconds above 0, at most {LONGEST_TIMEOUT_S:g}.",
                param="x-fingerpost-timeout",
            )
        return seconds
