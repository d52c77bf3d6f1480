"""Keeps a running stream within the money set aside for it: more is asked for in time, or the stream is cut cleanly."""

from __future__ import annotations

from gateway.admission.base import Lease
from gateway.dispatch.meters.base import Meter
from policies.catalogue import ModelCard

# What may be on its way from the upstream while we ask: frames hold a few tokens, a slow store takes 60 ms.
HEAD_ROOM_TOKENS = 48
# The least that an extension asks for first; a smaller one is tried where budgets are nearly spent.
EXTENSION_TOKENS = 512


class Spending:
    """The money of one stream under a hard budget."""

    __slots__ = ("_ask_above", "_head_room", "_largest", "_lease", "_meter", "_running", "_step")

    def __init__(self, lease: Lease, meter: Meter, card: ModelCard, prompt_tokens: int) -> None:
        self._lease = lease
        self._meter = meter
        prompt = card.cost_nanousd(prompt_tokens, 0)  # a long one may have a price of its own
        self._head_room = card.cost_nanousd(prompt_tokens, HEAD_ROOM_TOKENS) - prompt
        self._step = card.cost_nanousd(prompt_tokens, EXTENSION_TOKENS) - prompt
        self._running = self._meter.running_cost_nanousd
        self._largest = 0  # what one frame has cost so far at most
        self._ask_above = self._threshold()

    @property
    def is_short(self) -> bool:
        """Whether the next frames may cost more than is set aside; looked at after every frame."""
        running = self._meter.running_cost_nanousd
        if running - self._running > self._largest:
            self._largest = running - self._running
            if self._largest > self._head_room:  # tokens come in heaps, and the next one may be as large
                self._ask_above = min(self._ask_above, self._lease.reserved_nanousd - self._largest)
        self._running = running
        return running > self._ask_above and not self._meter.done

    async def extend(self) -> bool:
        """Set more aside; False where the budgets are spent, and the stream has to end here."""
        running, head_room = self._running, max(self._head_room, self._largest)
        for more in (max(self._step, running // 2), head_room):
            if await self._lease.extend(running + head_room + more):
                self._ask_above = self._threshold()
                return True
        # What is set aside already may be used up to its end, or as far as the largest frame leaves room for another.
        self._ask_above = self._lease.reserved_nanousd - self._largest
        return running < self._ask_above

    def _threshold(self) -> int:
        return max(self._lease.reserved_nanousd - max(self._head_room, self._largest), 0)
