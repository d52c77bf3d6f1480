"""One call for requests that come at once: the first leads, the others wait for its answer, bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from gateway.cache.base import Stored

LONGEST_S = 20.0

Turn = asyncio.Future["Stored | None"]


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
        """The leader's answer. None: there is none to share, and this one `leads` now or has waited long enough."""
        turn = self._turn
        if turn is None:
            return None
        try:
            async with asyncio.timeout(self._flights.longest_s):
                stored = await turn
        except TimeoutError:
            if turn not in self._group.turns:  # the answer came at the same moment
                return self._told(turn.result())
            self._group.turns.remove(turn)
            return None
        except asyncio.CancelledError:
            if turn in self._group.turns:
                self._group.turns.remove(turn)
            elif turn.result() is None:  # made the leader, but nobody is left to be
                self.land(None)
            raise
        return self._told(stored)

    def _told(self, stored: Stored | None) -> Stored | None:
        if stored is None:
            self._turn = None
        return stored

    def land(self, stored: Stored | None) -> None:
        """Hand the answer to all who wait; without one the first of them leads."""
        turns = self._group.turns
        woken = turns if stored is not None else turns[:1]
        self._group.turns = turns[len(woken) :]
        for turn in woken:
            turn.set_result(stored)
        if woken and stored is None:
            self._group.began_s = self._flights.clock()
        else:
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
