"""An answer that comes along with another request's: the frames of a stream that was called for that one.

It costs this request nothing and says so, as a kept answer does; a stream that breaks breaks here as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from copy import copy
from time import perf_counter

from gateway.cache import replayed
from gateway.cache.broadcast import BROKE_OFF, Seat
from gateway.errors import GatewayError, UpstreamBroken
from gateway.ledger.record import Record
from gateway.wire.reply import CLIENT_LEFT


async def along(
    seat: Seat, record: Record, started: float, wants_usage: bool, logs_text: bool, ended: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """What the client sees; `record` is whole when `ended` is told, however it ends."""
    kept: list[bytes] = []
    record.status, record.error_code = 500, "internal_error"
    try:
        async for frame in _frames(seat, wants_usage):
            if record.first_byte_ms is None:
                record.first_byte_ms = (perf_counter() - started) * 1000
            if logs_text:
                kept.append(frame)
            yield frame
        record.status, record.error_code = 200, None
    except GeneratorExit:
        record.status, record.error_code = 499, "client_disconnected"
        raise
    except GatewayError as error:
        record.status, record.error_code = error.http_status, error.detail()["code"]
        raise
    except asyncio.CancelledError as error:
        left = CLIENT_LEFT in error.args
        record.status, record.error_code = (499, "client_disconnected") if left else (503, "shutting_down")
        raise
    finally:
        seat.leave()
        if logs_text:
            record.answer = b"".join(kept).decode(errors="replace")
        if seat.ending is not None:
            record.saved_nanousd = seat.ending.made.cost_nanousd
            record.budget_exhausted = seat.ending.is_cut or record.budget_exhausted
        ended()


async def _frames(seat: Seat, wants_usage: bool) -> AsyncGenerator[bytes, None]:
    sample = b""
    while (frame := await seat.next()) is not None:
        if shown := replayed.along(frame):
            sample = sample or shown
            yield shown
    ending = seat.ending
    if ending is None:
        raise UpstreamBroken(BROKE_OFF)
    if ending.error is not None:
        raise copy(ending.error)  # each its own
    made = ending.made
    yield replayed.end(sample, made.body, (made.input_tokens, made.output_tokens), wants_usage)
