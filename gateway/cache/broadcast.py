"""The frames of an answer that is on its way, for several readers at their own pace. Knows no dialect and no source.

What is held is bounded as a kept answer is: from then on the oldest frames go, and with them whoever has not read them
yet, but never those that the first reader, the answer's own client, still needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cache.base import Stored
from gateway.cache.complete import MAX_BYTES
from gateway.errors import GatewayError, UpstreamBroken

BROKE_OFF = "The answer that this request shares with others broke off; ask again."
FELL_BEHIND = "This answer is shared with others, and came faster than it was read; ask again."


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended: regularly, cut where a budget ended, or by an `error`. `made` is what it was: as it is kept,
    else without a body."""

    made: Stored
    is_cut: bool = False
    error: GatewayError | None = None


class Broadcast:
    """`promised` is the answer as far as it is known before it is said, without a body; `made` what became of it."""

    def __init__(self, promised: Stored, max_bytes: int = MAX_BYTES) -> None:
        self.promised = self.made = promised
        self.is_cut = False
        self.ending: Ending | None = None
        self.deserted: Callable[[], None] = _nothing
        self._max_bytes = max_bytes
        self._frames: dict[int, bytes] = {}
        self._count = 0
        self._first = 0
        self._bytes = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._read = asyncio.Event()
        self._seats: set[Seat] = set()
        self._own: Seat | None = None

    def __len__(self) -> int:
        """How many frames there were."""
        return self._count

    @property
    def held_bytes(self) -> int:
        """What its frames take."""
        return self._bytes

    @property
    def readers(self) -> int:
        """Who reads, or will."""
        return len(self._seats)

    def add(self, frame: bytes) -> None:
        """One more."""
        self._frames[self._count] = frame
        self._count += 1
        self._bytes += len(frame)
        if self._bytes > self._max_bytes:
            self._trim()
        if self._waiting:
            self._wake()

    def close(self, error: GatewayError | None) -> None:
        """There are no more; idempotent."""
        self.ending = self.ending or Ending(self.made, self.is_cut, error)
        self._wake()

    def seat(self, *, own: bool = False) -> Seat | None:
        """For one who reads from the beginning on; None where that is gone. The `own` client goes on from here."""
        if own:
            self._own = found = Seat(self, len(self))
        elif self._first or self.ending is not None:
            return None
        else:
            found = Seat(self, 0)
        self._seats.add(found)
        return found

    def give_up(self, seat: Seat) -> None:
        """This one reads no more."""
        if seat not in self._seats:
            return
        self._seats.discard(seat)
        if seat is self._own:
            self._own = None
            self._trim()
        self._read.set()
        if not self._seats:
            self.deserted()

    async def after(self, place: int) -> bytes | None:
        """The frame of this number, once it is there; None after the last. `UpstreamBroken` for one that is gone."""
        while place >= self._count:
            if self.ending is not None:
                return None
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(news)
            await news
        if place < self._first:
            raise UpstreamBroken(FELL_BEHIND)
        return self._frames[place]

    def moved(self, seat: Seat) -> None:
        """This one has read a frame."""
        if seat is self._own and self._bytes > self._max_bytes:
            self._trim()
            self._read.set()

    async def room(self) -> None:
        """Wait until the own client has read so much that nothing it needs is more than may be held; others get a turn
        to read before anything that is new to them goes."""
        if 2 * self._bytes > self._max_bytes:
            await asyncio.sleep(0)
        while self._bytes > self._max_bytes and self._own is not None:
            self._read.clear()
            await self._read.wait()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():  # who has left is not told
                news.set_result(None)

    def _trim(self) -> None:
        needed = self._count if self._own is None else self._own.place
        while self._bytes > self._max_bytes and self._first < needed:
            self._bytes -= len(self._frames.pop(self._first))
            self._first += 1


class Seat:
    """One reader's place; whoever has it must `leave`."""

    __slots__ = ("_cast", "place")

    def __init__(self, cast: Broadcast, place: int) -> None:
        self._cast = cast
        self.place = place

    @property
    def promised(self) -> Stored:
        """See `Broadcast`."""
        return self._cast.promised

    @property
    def ending(self) -> Ending | None:
        """How it ended, once it has."""
        return self._cast.ending

    @property
    def is_void(self) -> bool:
        """Whether it broke before anything of it was read here."""
        ending = self._cast.ending
        return not self.place and ending is not None and ending.error is not None

    async def next(self) -> bytes | None:
        """The next frame, None after the last; `UpstreamBroken` for one who has fallen too far behind."""
        frame = await self._cast.after(self.place)
        if frame is not None:
            self.place += 1
            self._cast.moved(self)
        return frame

    def leave(self) -> None:
        """Read no more; idempotent."""
        self._cast.give_up(self)


def _nothing() -> None:
    """Nobody is told."""
