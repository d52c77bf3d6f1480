"""Gauges while Redis is frozen, dead, emptied or locked: what callers see, and what becomes of the money."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.gauges import Demand, GaugesUnavailable, Granted, Kind, Refused, Settlement
from gateway.admission.redis_gauges import RedisGauges
from gateway.admission.spend_book import SpendBook
from gateway.ledger.every_table import metadata
from gateway.redis_link import RedisLink, encoded
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer, locked_redis_server, redis_running, redis_server
from tests.integration.redis_workers import (
    BOUND_S,
    CALL,
    RULES,
    SLACK_S,
    Workers,
    end,
    engine,
    levels,
    settled,
    workers,
)

__all__ = ["engine", "locked_redis_server", "redis_running", "redis_server", "workers"]


async def test_redis_that_was_emptied_does_not_forget_what_was_spent(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    await end(gauges, "a", 250)
    redis_server.ask("FLUSHALL")

    assert await levels(gauges) == [(250, 0)] * 3


async def test_another_worker_finds_what_was_spent_before_redis_lost_it(
    workers: Workers, redis_server: RedisServer
) -> None:
    first, second = await workers.new(), await workers.new()
    await first.admit("a", CALL)
    await end(first, "a", 250)
    await first._book.flush()
    link = workers.link(second)
    redis_server.stop()
    redis_server.start()
    await eventually(lambda: not link.state.up)
    await asyncio.wait_for(link.until_up(), 5)

    assert await levels(second) == [(250, 0)] * 3


async def test_running_calls_keep_their_reservations_when_redis_loses_them(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    await gauges.extend("a", CALL, 100)
    redis_server.ask("FLUSHALL")

    refused = await gauges.admit("b", Demand(RULES, 601, 10))

    assert isinstance(refused, Refused)
    assert (refused.kind, refused.rule_id, refused.free_nanousd) == (Kind.BUDGET, "total", 600)
    assert await levels(gauges) == [(0, 400)] * 3


async def test_a_worker_that_asks_nothing_soon_sets_up_its_calls_again(
    workers: Workers, redis_server: RedisServer
) -> None:
    running, other = await workers.new(), await workers.new()
    await running.admit("a", CALL)
    redis_server.ask("FLUSHALL")
    assert await levels(other) == [(0, 0)] * 3

    async def counted_anew() -> bool:
        return await levels(other) == [(0, 300)] * 3

    await eventually(counted_anew)


async def test_a_call_that_redis_has_lost_is_settled_at_its_cost(workers: Workers, redis_server: RedisServer) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.ask("FLUSHALL")

    await end(gauges, "a", 250)

    assert await levels(gauges) == [(250, 0)] * 3


async def test_a_call_that_redis_has_lost_can_be_extended_while_budgets_cover_it(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.ask("FLUSHALL")

    assert await gauges.extend("a", CALL, 700)
    assert not await gauges.extend("a", CALL, 1)
    assert await levels(gauges) == [(0, 1_000)] * 3


async def test_a_command_left_in_an_old_connection_does_nothing_any_more(workers: Workers) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    link = workers.link(gauges)
    late = encoded(("late", 300, 10, "", 60.0))
    stamp = encoded((link.generation, gauges._teacher.epoch))
    link._go_away("as if it had hung")
    await link.until_up()
    await gauges.admit("b", CALL)

    reply = await gauges._scripts.admit.run(gauges._keys, gauges._spell(RULES).wire, stamp, late)

    assert reply == [-2]
    assert await levels(gauges) == [(0, 600)] * 3


async def test_a_frozen_redis_costs_sixty_milliseconds_once_and_then_nothing(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.freeze()

    first_s = await refusal_s(gauges)
    later_s = [await refusal_s(gauges) for _ in range(500)]

    assert first_s < BOUND_S + SLACK_S
    assert sorted(later_s)[250] < 0.000_2
    assert max(later_s) < SLACK_S


async def refusal_s(gauges: RedisGauges) -> float:
    """Of a lease `x`, which may be granted all the same."""
    begun = time.perf_counter()
    with pytest.raises(GaugesUnavailable):
        await gauges.admit("x", CALL)
    return time.perf_counter() - begun


async def test_who_was_not_even_asked_need_not_undo(workers: Workers, redis_server: RedisServer) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.freeze()

    with pytest.raises(GaugesUnavailable) as in_vain:
        await gauges.admit("b", CALL)
    with pytest.raises(GaugesUnavailable) as at_once:
        await gauges.admit("c", CALL)

    assert (in_vain.value.asked, at_once.value.asked) == (True, False)


async def test_what_ends_while_redis_is_frozen_is_settled_when_it_thaws(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.freeze()
    with pytest.raises(GaugesUnavailable):
        await gauges.admit("b", CALL)
    gauges.settle(Settlement("a", CALL, 250, 10))
    gauges.settle(Settlement("b", CALL, 0, 0))  # undone: nobody knows whether it was granted
    redis_server.thaw()

    await settled(gauges)

    assert await levels(gauges) == [(250, 0)] * 3


async def test_what_ends_while_redis_is_dead_is_not_forgotten(workers: Workers, redis_server: RedisServer) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.stop()
    gauges.settle(Settlement("a", CALL, 250, 10))
    redis_server.start()
    await settled(gauges)

    assert await levels(gauges) == [(250, 0)] * 3


async def test_a_shutdown_without_redis_leaves_the_costs_in_the_database(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    redis_server.stop()
    gauges.settle(Settlement("a", CALL, 250, 10))

    await gauges.drain(0.3)

    assert await SpendBook(workers.engine).read({"total": 0}) == {"total": {0: 250}}


async def test_without_redis_and_without_what_was_spent_nothing_is_granted(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new()
    async with workers.engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)

    with pytest.raises(GaugesUnavailable, match="what was spent is not known"):
        await gauges.admit("a", CALL)


async def test_where_redis_knows_what_was_spent_a_new_worker_needs_no_database(workers: Workers) -> None:
    first, second = await workers.new(), await workers.new()
    await first.admit("a", CALL)
    await end(first, "a", 250)
    async with workers.engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)

    assert isinstance(await second.admit("b", CALL), Granted)
    assert await levels(second) == [(250, 300)] * 3


async def test_a_wrong_password_is_an_outage_that_does_not_tell_it(
    locked_redis_server: RedisServer, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    link = RedisLink(locked_redis_server.url.replace("//", "//:open-barley@"), BOUND_S)
    gauges = RedisGauges(link, SpendBook(engine))
    await gauges.start()

    with pytest.raises(GaugesUnavailable, match="WRONGPASS") as unavailable:
        await gauges.admit("a", CALL)

    assert "barley" not in str(unavailable.value) + caplog.text
    await gauges.drain(0.1)
    await link.close()


async def test_nothing_is_reaped_before_those_who_live_could_renew_their_leases(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new(lease_s=0.5)
    await gauges.admit("a", CALL)
    redis_server.freeze()
    await refusal_s(gauges)
    await asyncio.sleep(0.5)
    redis_server.thaw()
    await asyncio.wait_for(workers.link(gauges).until_up(), 5)

    await end(gauges, "x", 0)
    assert await gauges.reap() == []
    await gauges.renew(["a"])
    assert await levels(gauges) == [(0, 300)] * 3
