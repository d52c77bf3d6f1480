"""Dry runs' reports on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.lifecycle.dry_run.store import DEAD_S, STOPPED, Asked, Busy, ReportStore


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def begun(store: ReportStore) -> str:
    return await store.begin("default", "schema = 1", 3, Asked(last=7), actor="ann")


async def test_a_report_is_begun_followed_and_finished(engine: AsyncEngine) -> None:
    clock = Clock()
    store = ReportStore(engine, clock)
    report_id = await begun(store)
    clock.now += 5

    assert await store.note(report_id, "estimating", 0.5)
    half = await store.get(report_id)
    assert await store.finish(report_id, {"verdict": "ü"})
    told = await store.get(report_id)

    assert half is not None and (half.state, half.stage, half.done, half.seen_at) == (
        "running",
        "estimating",
        0.5,
        1005,
    )
    assert told is not None and (told.state, told.done, told.result, told.ended_at) == (
        "done",
        1,
        {"verdict": "ü"},
        1005,
    )
    assert (told.asked["last"], told.version_id, told.body) == (7, 3, "schema = 1")
    assert not await store.note(report_id, "late", 0.1) and not await store.fail(report_id, "late")


async def test_one_runs_at_a_time_until_it_is_cancelled_or_dead(engine: AsyncEngine) -> None:
    clock = Clock()
    store = ReportStore(engine, clock)
    first = await begun(store)

    with pytest.raises(Busy, match=first):
        await begun(store)
    assert await store.cancel(first, actor="bob")
    second = await begun(store)
    clock.now += DEAD_S + 1
    third = await begun(store)

    dead = await store.get(second)
    assert dead is not None and (dead.state, dead.error) == ("failed", STOPPED)
    assert next((one.id, one.state) for one in await store.list("default")) == (third, "running")
    assert not await store.note(first, "late", 0.9)
    assert await store.list("other") == []


async def test_who_says_that_it_lives_is_not_taken_for_dead(engine: AsyncEngine) -> None:
    clock = Clock()
    store = ReportStore(engine, clock)
    report_id = await begun(store)
    for _ in range(3):
        clock.now += DEAD_S - 1
        assert await store.note(report_id, "reading", 0.1)

    told = await store.get(report_id)

    assert told is not None and told.state == "running"
