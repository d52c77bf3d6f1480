"""Gauges in a real Redis: money that was set aside or spent is counted once and exactly, and nothing piles up.

What every store must do is in tests/contract/test_gauges.py, what outages do in test_redis_outages.py.
"""

from __future__ import annotations

import asyncio
import time

from gateway.admission.gauges import Demand, Granted, Refused, Settlement
from gateway.admission.rules import Budget, Period, Rules, Scope, Window, WindowKind
from gateway.redis_link import Script, encoded
from tests.integration.redis_server import RedisServer, locked_redis_server, redis_running, redis_server
from tests.integration.redis_workers import (
    CALL,
    RULES,
    Workers,
    end,
    engine,
    levels,
    settled,
    workers,
)

__all__ = ["engine", "locked_redis_server", "redis_running", "redis_server", "workers"]


async def test_a_cost_that_nothing_was_reserved_for_counts(workers: Workers) -> None:
    gauges = await workers.new()
    await levels(gauges)

    await end(gauges, "never-admitted", 250)

    assert await levels(gauges) == [(250, 0)] * 3


async def test_settlements_that_are_sent_again_count_once(workers: Workers) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    batch = encoded((workers.link(gauges).generation, 77, "a", 250, 10, "unknown", 50, 10))
    costs = encoded((workers.link(gauges).generation, 78, "unknown", 50, gauges._spell(RULES).spelled))

    settled = [await gauges._scripts.settle.run(gauges._keys, batch) for _ in range(3)]
    counted = [await gauges._scripts.count.run(gauges._keys, costs) for _ in range(3)]

    assert settled == [[settled[0][0], 2]] * 3
    assert counted == [[counted[0][0], b""]] * 3
    assert await levels(gauges) == [(300, 0)] * 3


async def test_a_lease_is_charged_by_one_reaper_only(workers: Workers) -> None:
    first, second = await workers.new(lease_s=0.05), await workers.new(lease_s=0.05)
    for number in range(3):
        await first.admit(f"lease{number}", Demand(RULES, 100, 10))
    await asyncio.sleep(0.06)

    found = await asyncio.gather(first.reap(), second.reap())

    assert sorted(len(expired) for expired in found) == [0, 3]
    assert await levels(second) == [(300, 0)] * 3
    assert isinstance(await second.admit("next", Demand(RULES, 0, 10)), Granted)


async def test_what_was_reaped_is_in_the_book_of_the_reaper(workers: Workers, redis_server: RedisServer) -> None:
    dead, reaper = await workers.new(lease_s=0.05), await workers.new(lease_s=0.05)
    await dead.admit("a", CALL)
    await asyncio.sleep(0.06)
    await reaper.reap()
    dead._running.clear()
    redis_server.ask("FLUSHALL")

    assert await levels(reaper) == [(300, 0)] * 3


async def test_a_clock_that_was_set_back_locks_nobody_out(workers: Workers, redis_server: RedisServer) -> None:
    """Redis' clock can't be set here, so its state is: as if it had been written by a clock a day ahead."""
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    ahead = str(time.time() + 86_400)
    redis_server.ask("HSET", "{fp}:limit:rate", "q", ahead, "k", ahead)

    granted = await gauges.admit("b", CALL)

    assert isinstance(granted, Granted)
    assert granted.requests is not None
    assert granted.requests.remaining == granted.requests.limit - 1


async def test_a_call_that_outlived_its_lease_is_charged_what_it_cost(
    workers: Workers, redis_server: RedisServer
) -> None:
    gauges = await workers.new(lease_s=0.05)
    await gauges.admit("a", CALL)
    await asyncio.sleep(0.06)
    assert [expired.cost_nanousd for expired in await gauges.reap()] == [300]

    await end(gauges, "a", 250)

    assert await levels(gauges) == [(250, 0)] * 3
    redis_server.ask("FLUSHALL")
    assert await levels(gauges) == [(250, 0)] * 3


async def test_a_late_settlement_does_not_burden_a_later_window(workers: Workers, redis_server: RedisServer) -> None:
    """As if the lease had expired a month ago: what it cost then is known too late to matter to any window of today."""
    gauges = await workers.new(lease_s=0.05)
    await gauges.admit("a", CALL)
    await asyncio.sleep(0.06)
    await gauges.reap()
    redis_server.ask("SET", "{fp}:charged:a", f"300 {int(time.time()) - 32 * 86_400}")

    await end(gauges, "a", 300)

    assert await levels(gauges) == [(300, 0)] * 3


async def test_a_leap_of_the_clock_lets_no_lease_expire(workers: Workers, redis_server: RedisServer) -> None:
    """As if: the lease is over by Redis' clock, which is an hour ahead of where it was when we last looked."""
    gauges = await workers.new(lease_s=0.05)
    await gauges.admit("a", CALL)
    assert await gauges.reap() == []
    assert gauges._clock_ahead_s is not None
    gauges._clock_ahead_s -= 3_600
    await asyncio.sleep(0.06)

    assert await gauges.reap() == []
    await asyncio.sleep(0.06)
    assert len(await gauges.reap()) == 1


async def test_sums_beyond_what_a_double_holds_are_exact(workers: Workers) -> None:
    limit = 2**62 + 1
    vast = Rules((Budget("vast", Scope.KEY, "k", limit), Budget("soft", Scope.KEY, "k", limit - 1, hard=False)))
    gauges = await workers.new()
    await gauges.levels(vast.budgets)
    gauges.settle(Settlement("earlier", Demand(vast, 0, 0), limit - 1_001, 0))
    await settled(gauges)

    refused = await gauges.admit("a", Demand(vast, 1_002, 0))
    granted = await gauges.admit("b", Demand(vast, 1_001, 0))

    assert isinstance(refused, Refused)
    assert refused.free_nanousd == 1_001
    assert granted == Granted(warned=("soft",))
    assert [level.spent_nanousd for level in await gauges.levels(vast.budgets)] == [limit - 1_001] * 2


async def test_a_lone_flood_of_settlements_is_one_call(workers: Workers, redis_server: RedisServer) -> None:
    gauges = await workers.new()
    rules = Rules((Budget("wide", Scope.KEY, "k", 10**9),))
    for number in range(150):
        await gauges.admit(f"lease{number}", Demand(rules, 10, 0))
    before = _scripts_run(redis_server)
    for number in range(150):
        gauges.settle(Settlement(f"lease{number}", Demand(rules, 10, 0), 7, 0))
    await settled(gauges)

    assert _scripts_run(redis_server) - before == 1
    assert [level.spent_nanousd for level in await gauges.levels(rules.budgets)] == [1_050]


def _scripts_run(server: RedisServer) -> int:
    lines = server.ask("INFO", "commandstats").splitlines()
    line = next(line for line in lines if line.startswith("cmdstat_evalsha"))
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_nothing_stays_for_ever_in_redis(workers: Workers) -> None:
    gauges = await workers.new()
    await gauges.admit("a", CALL)
    await end(gauges, "a", 250)
    link = workers.link(gauges)

    left = {key: await link.call("PTTL", key) for key in await link.call("KEYS", "*")}

    assert left.pop(b"{fp}:epoch") == -1
    assert len(left) == 5
    assert all(ms > 0 for ms in left.values())


async def test_old_buckets_are_dropped_from_redis_when_a_new_one_begins(workers: Workers) -> None:
    gauges = await workers.new()
    await levels(gauges)
    link = workers.link(gauges)
    for budget in ("month", "hour"):
        await link.call("HSET", f"{{fp}}:budget:{budget}", "0", "999999")
    await gauges.admit("a", CALL)
    await end(gauges, "a", 250)

    assert await levels(gauges) == [(250, 0)] * 3
    assert await link.call("HEXISTS", "{fp}:budget:month", "0") == 0
    assert await link.call("HEXISTS", "{fp}:budget:hour", "0") == 0


async def test_lua_finds_the_same_buckets_as_the_pure_arithmetic(workers: Workers) -> None:
    gauges = await workers.new()
    link = workers.link(gauges)
    text = gauges._scripts.levels._lua.partition("-- ARGV")[0]
    script = Script(link, text + "return bucket_of(cmsgpack.unpack(ARGV[1])[1][1], tonumber(ARGV[2]))")
    for window in _windows():
        spelled = gauges._spell(Rules((Budget("b", Scope.KEY, "k", 1, window),)))
        for moment in range(0, 4_102_444_800, 17_654_321):
            found = await script.run(encoded((0,)), encoded((spelled.spelled, moment)))
            assert found == spelled.buckets(moment)[0][1]


def _windows() -> list[Window]:
    calendar = [Window(WindowKind.CALENDAR, period) for period in Period]
    return [Window(), *calendar, Window(WindowKind.ROLLING, seconds=90), Window(WindowKind.ROLLING, seconds=86_400)]
