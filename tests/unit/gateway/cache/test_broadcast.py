"""One answer read by many: all of it, in order, at each one's own pace, in bounded room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.base import Stored
from gateway.cache.broadcast import Broadcast, Seat
from gateway.errors import UpstreamBroken

PROMISED = Stored("1", "key:k", "p", "x", "general", b"", "m", "e", 0.0, 0.0)
FRAMES = st.lists(st.binary(min_size=1, max_size=9), max_size=30)


def seated(cast: Broadcast) -> Seat:
    found = cast.seat()
    assert found is not None
    return found


async def heard(seat: Seat, pauses: Sequence[int] = ()) -> list[bytes]:
    """All that is read, with so many turns of the loop before each frame."""
    found, waits = [], iter(pauses)
    while (frame := await seat.next()) is not None:
        found.append(frame)
        for _ in range(next(waits, 0)):
            await asyncio.sleep(0)
    return found


@given(FRAMES, st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 3), max_size=30)), max_size=5))
def test_whoever_comes_whenever_reads_all_in_order(frames: list[bytes], readers: list[tuple[int, list[int]]]) -> None:
    async def played() -> list[list[bytes]]:
        cast, tasks = Broadcast(PROMISED), []
        for place in range(len(frames) + 1):
            tasks += [asyncio.create_task(heard(seated(cast), waits)) for at, waits in readers if at == place]
            await asyncio.sleep(0)
            if place < len(frames):
                cast.add(frames[place])
        cast.close(None)
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(played()) == [frames for at, _ in readers if at <= len(frames)]


@given(FRAMES, st.integers(1, 40))
def test_what_is_held_is_bounded_and_who_is_too_slow_is_told_so(frames: list[bytes], bound: int) -> None:
    async def played() -> None:
        cast = Broadcast(PROMISED, max_bytes=bound)
        seat = seated(cast)
        for frame in frames:
            cast.add(frame)
            assert cast.held_bytes <= bound
        cast.close(None)
        if sum(map(len, frames)) <= bound:
            assert await heard(seat) == frames
        else:
            with pytest.raises(UpstreamBroken):
                await heard(seat)
            assert cast.seat() is None

    asyncio.run(played())


async def test_the_answers_own_client_is_never_too_slow_and_the_source_waits_for_it() -> None:
    cast = Broadcast(PROMISED, max_bytes=4)
    own, other = cast.seat(own=True), seated(cast)
    assert own is not None
    for frame in (b"aaa", b"bbb", b"ccc"):
        cast.add(frame)
    waiting = asyncio.create_task(cast.room())
    await asyncio.sleep(0)
    assert not waiting.done()

    assert [await own.next(), await own.next(), await own.next()] == [b"aaa", b"bbb", b"ccc"]

    await asyncio.wait_for(waiting, 1)
    assert cast.held_bytes <= 4
    with pytest.raises(UpstreamBroken):
        await other.next()


async def test_the_source_does_not_wait_for_a_client_that_has_left() -> None:
    cast = Broadcast(PROMISED, max_bytes=2)
    own, other = cast.seat(own=True), seated(cast)
    cast.add(b"aaa")
    waiting = asyncio.create_task(cast.room())
    await asyncio.sleep(0)
    assert own is not None and not waiting.done()

    own.leave()

    await asyncio.wait_for(waiting, 1)
    assert cast.readers == 1 and other.place == 0


async def test_it_is_told_when_the_last_reader_has_left() -> None:
    cast, told = Broadcast(PROMISED), list[str]()
    cast.deserted = lambda: told.append("deserted")
    one, other = seated(cast), seated(cast)

    one.leave()
    one.leave()
    assert not told
    other.leave()

    assert told == ["deserted"]


async def test_a_reader_that_is_cancelled_takes_nobody_with_it() -> None:
    cast = Broadcast(PROMISED)
    hasty, patient = (asyncio.create_task(heard(seated(cast))) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.wait({hasty})

    cast.add(b"a")
    cast.close(None)

    assert await asyncio.wait_for(patient, 1) == [b"a"]


async def test_who_read_nothing_of_what_broke_knows_that_it_is_void() -> None:
    cast = Broadcast(PROMISED)
    late, early = seated(cast), seated(cast)
    cast.add(b"a")
    await early.next()

    cast.close(UpstreamBroken("broke"))

    assert (late.is_void, early.is_void) == (True, False) and cast.seat() is None
