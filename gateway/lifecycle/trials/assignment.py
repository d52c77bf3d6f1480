"""Who gets the draft: a keyed hash of the trial and of whoever asks, the same on every worker, kept nowhere.

A unit's place is a number that looks drawn evenly from 0..1; the canary arm is what lies below the share. So a unit
stays in its arm, and a larger share keeps everybody who was in the arm before. Trials are independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final

import msgspec

from gateway.admission.rules import Caller
from gateway.wire.chat_request import ChatRequest

_BITS: Final = 53


class Arm(StrEnum):
    """What a request was to a trial."""

    CONTROL = "control"
    CANARY = "canary"
    SHADOW = "shadow"


class UnitKind(StrEnum):
    """What is kept in one arm: whoever asks (session, else end user, else key), or each request by itself."""

    CALLER = "caller"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit stands in a trial: `unit` is 16 hex digits that tell nothing of it, `height` in [0, 1)."""

    unit: str
    height: float

    def arm(self, share: float) -> Arm:
        """The canary arm is the lower part."""
        return Arm.CANARY if self.height < share else Arm.CONTROL


def place_of(trial_id: str, unit: str) -> Place:
    """Pure; `trial_id` is drawn at random, so that nobody can choose a name for its arm."""
    digest = blake2b(unit.encode(errors="surrogatepass"), key=trial_id.encode()[:64], digest_size=8).digest()
    return Place(digest.hex(), (int.from_bytes(digest) >> (64 - _BITS)) / 2**_BITS)


def unit_of(kind: UnitKind, request: ChatRequest, caller: Caller, request_id: str, session: str) -> str:
    """What is drawn for. `session` is the header's; nothing is derived from the prompt, which differs from a
    conversation's first turn to its second. Lines of keys never share a unit, whatever they name it."""
    if kind is UnitKind.REQUEST:
        return _joined("request", request_id)
    line = caller.root_id or caller.key_id
    named = session or _cache_key(request)
    if named:
        return _joined("session", line, named)
    if request.envelope.user:
        return _joined("end_user", line, request.envelope.user)
    return _joined("key", line)


def _joined(*parts: str) -> str:
    return "\0".join(parts)


def _cache_key(request: ChatRequest) -> str:
    """OpenAI's `prompt_cache_key`, which names what belongs together."""
    fields = request.original.fields if request.original is not None else request.fields
    raw = fields.get("prompt_cache_key")
    try:
        return "" if raw is None else msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return ""  # the upstream's business
