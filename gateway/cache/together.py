"""Requests that come at once: which of them is asked upstream, and what the others wait for.

Equal ones wait for the first, in this worker or in another; what certainly asks the same in other words waits for that
too, but then leads nobody: those who waited for it look for themselves. Nobody waits longer than the flights' bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cache.asked import Asked
from gateway.cache.asking import Asking, Asks, Question
from gateway.cache.base import StoreAway, Stored
from gateway.cache.flights import Flight, Flights, Word
from gateway.cache.leases import Alone, HeldLease, Leases, Taken
from gateway.cache.semantic import Needed
from policies.schema import CacheMode

# Nothing to share: the request is to be answered for itself, and leads where it has a flight.
_NOTHING = Word()


@dataclass(frozen=True, slots=True)
class Shared:
    """What another request's call has brought; `kind` and `probability` as of a hit."""

    word: Word
    kind: CacheMode
    probability: float


class Together:
    """Of one worker. `leases`: between workers; `asking`: what may be waited for by likeness."""

    def __init__(
        self, flights: Flights | None = None, *, leases: Leases | None = None, asking: Asking | None = None
    ) -> None:
        self.flights = Flights() if flights is None else flights
        self.leases = leases
        self.asking = asking
        self.counts: Counter[str] = Counter()

    def figures(self) -> dict[str, float]:
        """For operators."""
        leases = 0 if self.leases is None else len(self.leases)
        asking = 0 if self.asking is None else len(self.asking)
        return {**self.counts, "led": len(self.flights), "leases": leases, "asked_by_likeness": asking}

    async def join(self, asked: Asked) -> Word:
        """Lead, which needs no waiting unless another worker leads, or get what the leader has to share."""
        latest_s = self._latest_s(asked)
        looked, asked.looked = asked.looked, None
        while True:
            flight = self.flights.join(asked.exact, streams=asked.streams)
            if isinstance(looked, HeldLease):
                flight.hold(looked)
                looked = None
            if flight.leads:
                asked.flight = flight
                return await self._elsewhere(asked, flight, latest_s) if isinstance(looked, Taken) else _NOTHING
            self.counts["waited"] += 1
            word = await flight.answer(max(0.0, latest_s - _now_s()))
            if _is_void(word):
                continue
            if word.leads:
                asked.flight = flight
                return _NOTHING if flight.has_lease else await self._elsewhere(asked, flight, latest_s)
            asked.gave_way = word.again
            return word

    async def alike(
        self, asked: Asked, question: Question, needed: Needed, allows: Callable[[Asks], bool]
    ) -> Shared | None:
        """Wait for who asks the same in other words; None where nobody does: then this one leads where it can."""
        latest_s = self._latest_s(asked)
        while self.asking is not None and (left_s := latest_s - _now_s()) > 0:
            found = next(filter(allows, self.asking.find(question, needed)), None)
            flight = self.flights.attend(found.exact, streams=asked.streams) if found is not None else None
            if found is None or flight is None:
                break
            asked.give_way()
            self.counts["waited_alike"] += 1
            word = await flight.answer(left_s)
            if not _is_void(word) and (word.stored is not None or word.seat is not None):
                return Shared(word, CacheMode.SEMANTIC, found.probability)
        if not asked.gave_way:
            return None
        asked.gave_way = False
        return Shared(await self.join(asked), CacheMode.EXACT, 1.0)

    def begins(self, asked: Asked, question: Question) -> None:
        """It is asked upstream from now on, and may be waited for by likeness until that is over."""
        if asked.flight is not None and self.asking is not None:
            asked.flight.when_over(self.asking.begins(question))

    async def _elsewhere(self, asked: Asked, flight: Flight, latest_s: float) -> Word:
        """Another worker asks: wait for it, for all who wait here."""
        if self.leases is None:
            return _NOTHING
        self.counts["waited_elsewhere"] += 1
        try:
            found = await self.leases.follow(asked.tenant, asked.exact, latest_s)
        except StoreAway:
            found = None
        if isinstance(found, Stored):
            asked.land(found)
            return Word(found)
        if found is Alone.EACH:
            asked.release()
            return _NOTHING
        flight.begin()
        if isinstance(found, HeldLease):
            flight.hold(found)
        return _NOTHING

    def _latest_s(self, asked: Asked) -> float:
        """Until when it may wait in all, by the event loop."""
        bound_s = _now_s() + self.flights.longest_s
        asked.latest_s = bound_s if asked.latest_s is None else min(bound_s, asked.latest_s)
        return asked.latest_s


def _is_void(word: Word) -> bool:
    """Whether what was to come broke off before anything of it was read."""
    if word.seat is None or not word.seat.is_void:
        return False
    word.seat.leave()
    return True


def _now_s() -> float:
    return asyncio.get_running_loop().time()
