"""One call for requests that come at once: the first leads, the others wait for its answer, bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from gateway.cache.base import Stored

LONGEST_S = 20.0


@dataclass(frozen=True, slots=True)
class _Word:
    """What one who waits is told: an answer, or that it leads now, or neither: it is to ask for itself."""

    stored: Stored | None = None
    leads: bool = False


Turn = asyncio.Future[_Word]


@dataclass(slots=True)
class _Group:
    """Those who wait for one answer, in order of their coming, and since when somebody leads."""

    began_s: float
    turns: list[Turn] = field(default_factory=list)


class Flight:
    """One request's part. Who `leads` must `land`; who does not waits for the `answer`."""

    def __init__(self, flights: Flights, name: str, group: _Group, turn: Turn | None) -> None:
        self._flights = flights
        self._name = name
        self._group = group
        self._turn = turn

    @property
    def leads(self) -> bool:
        """Whether this one asks for all."""
        return self._turn is None

    async def answer(self) -> Stored | None:
        """The leader's answer. None: there is none to share; this one `leads` now, or is to ask for itself."""
        turn = self._turn
        if turn is None:
            return None
        try:
            await asyncio.wait({turn}, timeout=self._flights.longest_s)  # which never cancels the turn
        except asyncio.CancelledError:
            if self._told(turn).leads:  # made the leader, but nobody is left to be
                self.land(None)
            raise
        word = self._told(turn)
        if word.leads:
            self._turn = None
        return word.stored

    def _told(self, turn: Turn) -> _Word:
        """What was said by now; from then on nobody is."""
        if turn.done():
            return turn.result()
        self._group.turns.remove(turn)
        return _Word()

    def land(self, stored: Stored | None) -> None:
        """Hand the answer to all who wait; without one the first of them leads."""
        if stored is None and self._group.turns:
            self._group.began_s = self._flights.clock()
            self._group.turns.pop(0).set_result(_Word(leads=True))
        else:
            self._end(_Word(stored))

    def release(self) -> None:
        """There will be nothing to share: whoever waits asks for itself."""
        self._end(_Word())

    def _end(self, word: _Word) -> None:
        turns, self._group.turns = self._group.turns, []
        for turn in turns:
            turn.set_result(word)
        self._flights.over(self._name, self._group)


class Flights:
    """All that is asked for just now, by exact fingerprint."""

    def __init__(self, longest_s: float = LONGEST_S, clock: Callable[[], float] = monotonic) -> None:
        self.longest_s = longest_s
        self.clock = clock
        self._groups: dict[str, _Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def join(self, name: str) -> Flight:
        """Lead, or wait for who leads; whoever has led for too long is not waited for any more."""
        group = self._groups.get(name)
        if group is None or self.clock() - group.began_s > self.longest_s:
            group = self._groups[name] = _Group(self.clock())
            return Flight(self, name, group, None)
        turn: Turn = asyncio.get_running_loop().create_future()
        group.turns.append(turn)
        return Flight(self, name, group, turn)

    def over(self, name: str, group: _Group) -> None:
        """Nobody of this group is asking any more."""
        if self._groups.get(name) is group:
            del self._groups[name]
