"""Two workers over one shared state, in memory; the real store is tested in tests/integration."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping

import pytest

from gateway.dispatch.breaker import FAILURES_TO_OPEN, PAUSE_S, VERDICT_S
from gateway.dispatch.health import Health
from gateway.dispatch.shared_health import SharedHealth
from tests.eventually import eventually

POLL_S = 0.01


class Board:
    """The shared state as a dictionary; it can be away."""

    def __init__(self) -> None:
        self.until: dict[str, float] = {}
        self.away = False
        self.reads = 0

    async def publish(self, endpoint_id: str, pause_s: float) -> None:
        self._answer()
        if pause_s:
            self.until[endpoint_id] = time.monotonic() + pause_s
        else:
            self.until.pop(endpoint_id, None)

    async def read(self) -> Mapping[str, float]:
        self._answer()
        self.reads += 1
        now = time.monotonic()
        return {endpoint: until - now for endpoint, until in self.until.items() if until > now}

    def _answer(self) -> None:
        if self.away:
            raise ConnectionError("nobody there")


@pytest.fixture
async def board() -> Board:
    return Board()


@pytest.fixture
async def workers(board: Board) -> AsyncIterator[tuple[Health, Health]]:
    pair = Health(time.monotonic), Health(time.monotonic)
    sharing = [SharedHealth(health, board, time.monotonic, POLL_S) for health in pair]
    for one in sharing:
        await one.start()
    yield pair
    for one in sharing:
        await one.close()


def break_down(health: Health) -> None:
    for _ in range(FAILURES_TO_OPEN):
        health.failed("e")


async def test_what_one_worker_finds_out_the_other_knows(workers: tuple[Health, Health]) -> None:
    one, other = workers
    break_down(one)

    await eventually(lambda: other.paused_s("e") > 0)
    assert PAUSE_S - 1 < other.paused_s("e") < PAUSE_S + VERDICT_S
    assert one.paused_s("e") <= PAUSE_S

    one.succeeded("e", 10)
    await eventually(lambda: other.paused_s("e") == 0)


async def test_a_wait_that_was_asked_for_is_shared_too(workers: tuple[Health, Health]) -> None:
    workers[0].failed("e", retry_after_s=30)

    await eventually(lambda: 29 < workers[1].paused_s("e") < 30 + VERDICT_S)


async def test_a_store_that_is_away_changes_nothing_here_and_is_told_later(
    board: Board, workers: tuple[Health, Health], caplog: pytest.LogCaptureFixture
) -> None:
    board.away = True
    await eventually(lambda: caplog.text.count("not shared") == len(workers))
    break_down(workers[0])

    assert workers[0].paused_s("e") > 0
    assert workers[1].paused_s("e") == 0
    board.away = False
    await eventually(lambda: workers[1].paused_s("e") > 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2  # once for each worker


async def test_what_is_over_by_then_is_not_told(board: Board, workers: tuple[Health, Health]) -> None:
    board.away = True
    workers[0].failed("e", retry_after_s=0.02)
    await asyncio.sleep(0.03)
    board.away = False

    seen = board.reads
    await eventually(lambda: board.reads > seen + 4)
    assert board.until == {}


async def test_after_closing_nothing_is_told_or_asked(board: Board) -> None:
    health = Health(time.monotonic)
    sharing = SharedHealth(health, board, time.monotonic, POLL_S)
    await sharing.start()
    await eventually(lambda: board.reads > 0)

    await sharing.close()
    break_down(health)

    assert board.until == {}
    assert health.told is None
