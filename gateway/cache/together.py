"""Requests that come at once: which of them is asked upstream, and what the others wait for.

Equal ones wait for the first, in this worker or in another; what certainly asks the same in other words waits for that
too, but then leads nobody: those who waited for it look for themselves. All waiting of one request has one bound.
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
    """Of one worker. `leases`: between workers; `asking`: what may be waited for by likeness. `patience`: for how many
    seconds a request waits, by what it waits usually."""

    def __init__(
        self,
        flights: Flights | None = None,
        *,
        leases: Leases | None = None,
        asking: Asking | None = None,
        patience: Callable[[Asked, float], float] | None = None,
    ) -> None:
        self._patience = patience or (lambda _asked, usual_s: usual_s)
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
        longest_s, left_s = self._bounds(asked)
        looked, asked.looked = asked.looked, None
        while True:
            flight = self.flights.join(asked.exact, streams=asked.streams, longest_s=longest_s)
            if isinstance(looked, HeldLease):
                looked.longest_s = longest_s
                flight.hold(looked)
                looked = None
            if flight.leads:
                asked.flight = flight
                return await self._elsewhere(asked, flight, left_s) if isinstance(looked, Taken) else _NOTHING
            self.counts["waited"] += 1
            word = await flight.answer(left_s)
            if _is_void(word):
                continue
            if word.leads:
                asked.flight = flight
                return _NOTHING if flight.has_lease else await self._elsewhere(asked, flight, left_s)
            asked.gave_way = word.again
            return word

    async def alike(
        self, asked: Asked, question: Question, needed: Needed, allows: Callable[[Asks], bool]
    ) -> Shared | None:
        """Wait for who asks the same in other words; None where nobody does: then this one leads where it can."""
        longest_s, left_s = self._bounds(asked)
        while self.asking is not None and left_s() > 0:
            found = next(filter(allows, self.asking.find(question, needed)), None)
            if found is None:
                break
            flight = self.flights.attend(found.exact, streams=asked.streams, longest_s=longest_s)
            if flight is None:
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

    async def _elsewhere(self, asked: Asked, flight: Flight, left_s: Callable[[], float]) -> Word:
        """Another worker asks: wait for it, for all who wait here."""
        if self.leases is None:
            return _NOTHING
        self.counts["waited_elsewhere"] += 1
        try:
            found = await self.leases.follow(asked.tenant, asked.exact, left_s)
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
            found.longest_s = self._bounds(asked)[0]
            flight.hold(found)
        return _NOTHING

    def _bounds(self, asked: Asked) -> tuple[Callable[[], float], Callable[[], float]]:
        """For how many seconds a request waits in all, and how many of them are left, both by what load is then."""
        since_s = asked.waits_since_s = _now_s() if asked.waits_since_s is None else asked.waits_since_s

        def longest_s() -> float:
            return self._patience(asked, self.flights.longest_s)

        def left_s() -> float:
            until_s = since_s + longest_s()
            return (until_s if asked.latest_s is None else min(until_s, asked.latest_s)) - _now_s()

        return longest_s, left_s


def _is_void(word: Word) -> bool:
    """Whether what was to come broke off before anything of it was read."""
    if word.seat is None or not word.seat.is_void:
        return False
    word.seat.leave()
    return True


def _now_s() -> float:
    return asyncio.get_running_loop().time()
