"""A second call beside one that is slow to begin: the first to answer wins. Knows no endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from gateway.errors import UpstreamError

_Result = TypeVar("_Result")
_Call = Coroutine[Any, Any, _Result]


async def race(
    first: _Call[_Result],
    after_s: float,
    second: Callable[[], _Call[_Result] | None],
    lost: Callable[[_Result], Awaitable[None]],
) -> _Result:
    """The answer of `first`, or of `second` where `first` is silent for `after_s` and `second` gives a call.

    The loser is cancelled and has ended when this returns; an answer that comes too late is handed to `lost`. Where
    one fails with an `UpstreamError` the other's answer counts, any other error counts at once; where both fail, the
    error of the first. Cancelling this cancels both.
    """
    running: list[asyncio.Future[_Result]] = [asyncio.ensure_future(first)]
    winner: asyncio.Future[_Result] | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=after_s)
        other = None if done else second()
        if other is not None:
            running.append(asyncio.ensure_future(other))
        winner = await _first_answer(running)
        return winner.result()
    finally:
        await _dismiss([one for one in running if one is not winner], lost)


async def _first_answer(running: list[asyncio.Future[_Result]]) -> asyncio.Future[_Result]:
    """The first that ends with an answer or an error that no other call can mend; else the first of all."""
    pending = set(running)
    while pending:
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for one in running:
            if one in pending and one.done():
                pending.discard(one)
                if one.cancelled() or not isinstance(one.exception(), UpstreamError):
                    return one
    return running[0]


async def _dismiss(losers: list[asyncio.Future[_Result]], lost: Callable[[_Result], Awaitable[None]]) -> None:
    for loser in losers:
        loser.cancel()
    if losers:
        await asyncio.wait(losers)
    for loser in losers:
        if not loser.cancelled() and loser.exception() is None:
            await lost(loser.result())
