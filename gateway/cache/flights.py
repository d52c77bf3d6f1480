"""One call for requests that come at once: the first leads, the others wait for its answer, bounded in time.

Who streams may come along while the answer is still on its way. Knows no request, no store and no frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from gateway.cache.base import Stored
from gateway.cache.broadcast import Seat

LONGEST_S = 20.0
# Where the models are overloaded wholly: another call would make that worse, and take as long.
LONGEST_UNDER_LOAD_S = 60.0


class Live(Protocol):
    """An answer that is on its way to the leader's client."""

    def admits(self, payer: str) -> bool:
        """Whether one of this payer's may come along at all."""

    def board(self) -> Seat | None:
        """A seat from which it is read from its beginning on; None: only at its next frame, or never."""


class Lease(Protocol):
    """Between workers, the right to ask for all of them."""

    def end(self, *, kept: bool, each: bool = False) -> None:
        """It is over. `kept`: the answer lies in the store; `each`: nobody needs to wait for it elsewhere either."""


@dataclass(frozen=True, slots=True)
class Word:
    """What one who waits is told: an answer, whole or on its way; or that it leads now; or none of that: it is to ask
    for itself, `again` if it may then wait for others."""

    stored: Stored | None = None
    seat: Seat | None = None
    leads: bool = False
    again: bool = False


@dataclass(slots=True, eq=False)
class _Turn:
    """One who waits. `streams`: for a stream, and who would pay for one of its own. `alike`: for an answer that its own
    request is not the exact fingerprint of; it never leads."""

    told: asyncio.Future[Word]
    streams: str | None
    alike: bool


@dataclass(slots=True, eq=False)
class _Group:
    """Those who wait for one answer, in order of their coming, and since when somebody leads. `stored` is set between
    the answer's end and its arrival in the store."""

    name: str
    began_s: float
    turns: list[_Turn] = field(default_factory=list)
    live: Live | None = None
    stored: Stored | None = None
    lease: Lease | None = None
    endings: list[Callable[[], None]] = field(default_factory=list)


class Flight:
    """One request's part. Who `leads` must `land` or `release`; who does not waits for the `answer`."""

    def __init__(self, flights: Flights, group: _Group, turn: _Turn | None) -> None:
        self._flights = flights
        self._group = group
        self._turn = turn

    @property
    def leads(self) -> bool:
        """Whether this one asks for all."""
        return self._turn is None

    async def answer(self, left_s: Callable[[], float] | None = None) -> Word:
        """What the leader has to share; this one may `lead` then. `left_s`: for how long it waits still, in seconds,
        asked anew when that is over: load may have given it more time."""
        turn = self._turn
        if turn is None:
            return Word(leads=True)
        left_s = left_s or self._flights.left_s()
        try:  # which never cancels the turn
            while not turn.told.done() and (timeout_s := left_s()) > 0:
                await asyncio.wait({turn.told}, timeout=timeout_s)
        except asyncio.CancelledError:
            self._decline(self._told(turn))
            raise
        word = self._told(turn)
        if word.leads:
            self._turn = None
        return word

    def _told(self, turn: _Turn) -> Word:
        """What was said by now; from then on nobody is."""
        if turn.told.done():
            return turn.told.result()
        self._group.turns.remove(turn)
        return Word()

    def _decline(self, word: Word) -> None:
        """It was told, but nobody is left to hear it."""
        if word.leads:
            self.land(None)
        elif word.seat is not None:
            word.seat.leave()

    def begin(self) -> None:
        """It is only asked from now on."""
        self._group.began_s = self._flights.clock()

    def hold(self, lease: Lease) -> None:
        """The lease under which this group asks, until it is over."""
        self._group.lease = lease

    @property
    def has_lease(self) -> bool:
        """Whether this group asks for all workers."""
        return self._group.lease is not None

    def when_over(self, ending: Callable[[], None]) -> None:
        """Call this once nobody can wait for this answer any more."""
        self._group.endings.append(ending)

    def share(self, live: Live) -> None:
        """Those who stream come along, now and from now on."""
        group = self._group
        group.live = live
        for turn in [one for one in group.turns if one.streams is not None and live.admits(one.streams)]:
            seat = live.board()
            if seat is not None:
                group.turns.remove(turn)
                turn.told.set_result(Word(seat=seat))

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits who could come along."""
        return bool(self._group.turns) and any(turn.streams is not None for turn in self._group.turns)

    def land(self, stored: Stored | None, arriving: asyncio.Future[bool] | None = None) -> None:
        """Hand the answer to all who wait; without one the first of them leads.

        `arriving` is its way into the store (whether it was kept): until then whoever comes is handed it as well.
        """
        group = self._group
        group.live = None
        heir = next((turn for turn in group.turns if not turn.alike), None) if stored is None else None
        if heir is not None:
            group.began_s = self._flights.clock()
            group.turns.remove(heir)
            heir.told.set_result(Word(leads=True))
            return
        self._tell(Word(stored))
        if stored is None or arriving is None:
            self._over(kept=False)
        else:
            group.stored = stored
            arriving.add_done_callback(lambda put: self._over(kept=_is_kept(put)))

    def release(self, *, again: bool = False) -> None:
        """There will be nothing to share: whoever waits asks for itself."""
        self._tell(Word(again=again))
        self._over(kept=False, each=not again)

    def _tell(self, word: Word) -> None:
        turns, self._group.turns = self._group.turns, []
        for turn in turns:
            turn.told.set_result(word)

    def _over(self, *, kept: bool, each: bool = False) -> None:
        group = self._group
        self._flights.over(group)
        lease, group.lease = group.lease, None
        if lease is not None:
            lease.end(kept=kept, each=each)
        endings, group.endings = group.endings, []
        for ending in endings:
            ending()


class Flights:
    """All that is asked for just now, by exact fingerprint."""

    def __init__(self, longest_s: float = LONGEST_S, clock: Callable[[], float] = monotonic) -> None:
        self.longest_s = longest_s
        self.clock = clock
        self._groups: dict[str, _Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def left_s(self) -> Callable[[], float]:
        """For how long one waits who begins to now, as a countdown."""
        until_s = monotonic() + self.longest_s
        return lambda: until_s - monotonic()

    def join(self, name: str, *, streams: str | None = None, longest_s: Callable[[], float] | None = None) -> Flight:
        """Lead, or wait for who leads; whoever has led for too long (`longest_s`) is not waited for any more.
        `streams`: who would pay for the stream that is asked for; None where it is none."""
        group = self._groups.get(name)
        if group is None or self._is_late(group, streams, longest_s):
            group = self._groups[name] = _Group(name, self.clock())
            return Flight(self, group, None)
        return self._waits(group, streams, alike=False)

    def attend(
        self, name: str, *, streams: str | None = None, longest_s: Callable[[], float] | None = None
    ) -> Flight | None:
        """Wait for the answer to another question than one's own; None where nobody asks it."""
        group = self._groups.get(name)
        if group is None or self._is_late(group, streams, longest_s):
            return None
        return self._waits(group, streams, alike=True)

    def over(self, group: _Group) -> None:
        """Nobody of this group is asking any more."""
        if self._groups.get(group.name) is group:
            del self._groups[group.name]

    def _is_late(self, group: _Group, streams: str | None, longest_s: Callable[[], float] | None) -> bool:
        if group.stored is not None or _comes_along(group, streams):
            return False
        return self.clock() - group.began_s > (self.longest_s if longest_s is None else longest_s())

    def _waits(self, group: _Group, streams: str | None, *, alike: bool) -> Flight:
        turn = _Turn(asyncio.get_running_loop().create_future(), streams, alike)
        seat = group.live.board() if group.live is not None and _comes_along(group, streams) else None
        if group.stored is not None:
            turn.told.set_result(Word(group.stored))
        elif seat is not None:
            turn.told.set_result(Word(seat=seat))
        else:
            group.turns.append(turn)
        return Flight(self, group, turn)


def _comes_along(group: _Group, streams: str | None) -> bool:
    return streams is not None and group.live is not None and group.live.admits(streams)


def _is_kept(put: asyncio.Future[bool]) -> bool:
    return not put.cancelled() and put.exception() is None and put.result()
