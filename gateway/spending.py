"""Keeps a running stream within the money set aside for it: no event is counted, or shown to the client, that is not.

More is asked for when the next event needs it; where that is not to be had the stream is cut before that event.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Final

from gateway.admission.base import Lease
from gateway.dispatch.meters.base import Meter
from policies.catalogue import ModelCard

# The least that an extension asks for first; just what the next event needs is tried where budgets are nearly spent.
EXTENSION_TOKENS: Final = 512
# No byte of an event is counted as more: our weighing gives a byte 0.9 at most, meters multiply that by 1.25 and by 2.
TOKENS_A_BYTE: Final = 2.25
_MANY: Final = 1_000_000
# What all dialects call a piece of an answer; nearly all that comes before it is the same in every event.
_DELTA: Final = b'"delta"'


class Spending:
    """The money of one stream under a hard budget; `exhausted` once the stream has to end."""

    __slots__ = ("_frame", "_head", "_lease", "_left", "_meter", "_nanousd_a_token", "_room", "_tail", "exhausted")

    def __init__(self, lease: Lease, meter: Meter, card: ModelCard, prompt_tokens: int, at: float) -> None:
        self._lease = lease
        self._meter = meter
        # A long prompt may have a price of its own, and so has each day.
        prompt = card.cost_nanousd(prompt_tokens, 0, at=at)
        self._nanousd_a_token = (card.cost_nanousd(prompt_tokens, _MANY, at=at) - prompt) / _MANY
        self._left = 0  # nano-dollars that are set aside beyond what was looked at
        self._room = 0.0  # of them, what is certain to cover frames that are not looked at
        # How the last event that was looked at begins and ends, and what it says at most: see `_at_most`.
        self._head = self._tail = b""
        self._frame = 0.0
        self.exhausted = False

    async def heard(self, frame: bytes) -> bytes:
        """What the client may see of a frame, up to the first event that nothing is set aside for.

        What lies beyond is as if it had not been read: a vendor may charge for it, as for what is on its way when a
        stream is cut, and does not tell.
        """
        at_most = self._at_most(frame)
        if at_most < self._room:
            self._room -= at_most
            return self._meter.stream(frame)
        shown = b""
        for event in _events(frame):
            if self._meter.done:
                break
            tokens = self._meter.weigh(event)
            if not await self._covers(tokens):
                self.exhausted = True
                break
            self._note(event, tokens)
            shown += self._meter.stream(event)
        self._room = 0.0
        if self._left > at_most:  # or else the next frame is looked at anyway
            self._room = self._left - self._cost(self._meter.weigh(b""))
        return shown

    def _at_most(self, frame: bytes) -> float:
        """What a frame costs whatever it says. A beginning and an end that are those of an event that was looked at say
        no more than that event; no string can reach into such an end, since nothing would close it."""
        size = len(frame) - len(self._head) - len(self._tail)
        if size >= 0 and frame.startswith(self._head) and frame.endswith(self._tail):
            return self._frame + self._nanousd_a_token * TOKENS_A_BYTE * size
        return self._nanousd_a_token * TOKENS_A_BYTE * len(frame)

    def _note(self, event: bytes, tokens: int) -> None:
        place = event.find(_DELTA)
        if place >= 0:
            self._head, self._tail = event[: place + len(_DELTA)], event[event.rfind(b'"}') + 2 :]
            self._frame = self._nanousd_a_token * tokens

    async def _covers(self, tokens: int) -> bool:
        """Whether so many more are set aside, now if not before; what says nothing passes in any case."""
        needed = self._meter.running_cost_nanousd + self._cost(tokens)
        self._left = self._lease.reserved_nanousd - needed
        if self._left >= 0 or not tokens:
            return True
        for more in (max(self._cost(EXTENSION_TOKENS), needed // 2), 0):
            if await self._lease.extend(needed + more):
                self._left = self._lease.reserved_nanousd - needed
                return True
        return False

    def _cost(self, tokens: int) -> int:
        return ceil(self._nanousd_a_token * tokens)


def _events(frame: bytes) -> Iterable[bytes]:
    if frame.find(b"\n\n") == len(frame) - 2:
        return (frame,)
    return [text + b"\n\n" for text in frame.split(b"\n\n") if text]
