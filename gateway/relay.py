"""A stream that others come along with: from then on it is read by a task of its own, and its client is one of many.

Until then the client draws the frames itself, so that a stream that nobody shares costs no task. The change is made
between two frames only: a reading that is cancelled half-way would end the stream for all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from gateway.cache.broadcast import BROKE_OFF, Seat
from gateway.cache.collecting import Shared
from gateway.errors import GatewayError, UpstreamBroken
from gateway.wire.reply import CLIENT_LEFT

log = logging.getLogger(__name__)

Fate = tuple[int, str | None]


class Relay:
    """`source` feeds the broadcast with each frame before it gives it out, and settles however it ends."""

    def __init__(self, source: AsyncGenerator[bytes, None], shared: Shared, left: Callable[[Fate], None]) -> None:
        self._source = source
        self._cast = shared.cast
        self._flight = shared.flight
        self._payer = shared.payer
        self._left = left
        self._pump: asyncio.Task[None] | None = None
        self._own: Seat | None = None
        self._rests = False

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """What the stream's own client sees."""
        self._flight.share(self)
        frame: bytes | None
        try:
            async for frame in self._source:
                self._rests = True
                if self._flight.is_awaited:
                    self._flight.share(self)
                yield frame
                self._rests = False
                if self._own is not None:
                    break
            while self._own is not None and (frame := await self._heard(self._own)) is not None:
                self._rests = True
                yield frame
                self._rests = False
        except GatewayError as error:
            if self._rests:  # the client can't be told what it says
                await self._leave((error.http_status, error.detail()["code"]), error)
            raise
        except GeneratorExit:
            await self._leave((499, "client_disconnected"))
            raise
        except asyncio.CancelledError as error:
            left = CLIENT_LEFT in error.args
            await self._leave((499, "client_disconnected") if left else (503, "shutting_down"))
            raise
        finally:
            if self._own is not None:
                self._own.leave()

    def admits(self, payer: str) -> bool:
        """See `Live`."""
        return self._payer in (None, payer)

    def board(self) -> Seat | None:
        """See `Live`: while the client draws a frame others wait until it is there."""
        if self._pump is None and not self._rests:
            return None
        seat = self._cast.seat()
        if seat is not None:
            self._start()
        return seat

    async def _heard(self, own: Seat) -> bytes | None:
        frame = await own.next()
        if frame is None and (ending := self._cast.ending) is not None and ending.error is not None:
            raise ending.error
        return frame

    def _start(self) -> None:
        """From now on the stream is read for all."""
        if self._pump is None:
            self._own = self._cast.seat(own=True)
            self._pump = asyncio.create_task(self._read(), name="shared-stream")
            self._pump.add_done_callback(_say_why)
            self._cast.deserted = self._stop

    async def _read(self) -> None:
        error: GatewayError | None = UpstreamBroken(BROKE_OFF)
        try:
            async for _ in self._source:
                await self._cast.room()
            error = None
        except GatewayError as failed:
            error = failed
        finally:
            self._cast.close(error)

    def _stop(self) -> None:
        """Nobody is left to hear it."""
        if self._pump is not None:
            self._pump.cancel(CLIENT_LEFT)

    async def _leave(self, fate: Fate, error: GatewayError | None = None) -> None:
        """The client hears no more; the stream ends with that, unless others hear it."""
        own, pump = self._own, self._pump
        if own is None or pump is None:
            if error is not None:
                with suppress(GatewayError):
                    await self._source.athrow(error)
            await self._source.aclose()
            return
        if self._cast.ending is None:
            self._left(fate)
        own.leave()
        if not self._cast.readers:
            await asyncio.wait({pump})


def _say_why(ended: asyncio.Task[None]) -> None:
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.error("a bug has ended a stream that several requests share", exc_info=error)
