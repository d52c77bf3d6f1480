"""Leases in a real Redis: of all workers one asks, the others wait for it, and nobody waits for one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.cache.base import StoreAway, Stored
from gateway.cache.leases import LEASE_S, Alone, HeldLease, Leases, Taken
from gateway.cache.redis_store import RedisStore
from gateway.cache.store_scripts import LOG, keys_of, scripts_on
from gateway.redis_link import RedisLink
from tests.contract.cache_stores import ROOMY, TENANT, Opened, exact_only, opened_redis, same
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer, redis_running, redis_server

__all__ = ["redis_running", "redis_server"]

SHORT_S = 0.2


@pytest.fixture
async def one(redis_server: RedisServer) -> AsyncIterator[Opened]:
    """A worker."""
    async with opened_redis(redis_server) as opened:
        yield opened


@pytest.fixture
async def other(redis_server: RedisServer, one: Opened) -> AsyncIterator[Opened]:
    """A second worker on the same Redis, with the same clock."""
    async with opened_redis(redis_server, clock=one.clock) as opened:
        yield opened


@pytest.fixture
async def short(redis_server: RedisServer) -> AsyncIterator[Leases]:
    """Those of a third worker, which run out soon unless they are renewed; `start` begins that."""

    async def nothing(*_: object) -> Stored | None:
        return None

    link = RedisLink(redis_server.url, 5.0)
    await link.start()
    leases = Leases(scripts_on(link), keys_of, nothing, lease_s=SHORT_S, renewal_s=SHORT_S / 8)
    yield leases
    await leases.close()
    await link.close()


def leases_of(opened: Opened) -> Leases:
    """A worker's."""
    assert isinstance(opened.store, RedisStore)
    return opened.store.leases


async def taken(leases: Leases, exact: str) -> HeldLease:
    """The lease, which is to be had."""
    found = await leases.look(TENANT, exact)
    assert isinstance(found, HeldLease)
    return found


async def gets(opened: Opened, exact: str) -> bool:
    """Whether a worker gets the lease."""
    return isinstance(await leases_of(opened).look(TENANT, exact), HeldLease)


async def waiting(opened: Opened, exact: str, longest_s: float = 20.0) -> asyncio.Task[object]:
    """One of another worker that waits."""
    loop = asyncio.get_running_loop()
    latest_s = loop.time() + longest_s
    following = leases_of(opened).follow(TENANT, exact, lambda: latest_s - loop.time())
    task: asyncio.Task[object] = asyncio.create_task(following)
    await eventually(lambda: leases_of(opened)._waiting)
    await leases_of(opened).look(TENANT, exact)  # answered after its own look
    return task


def log_length(server: RedisServer) -> int:
    """How many changes the log tells."""
    return int(server.ask("XLEN", LOG).strip().lstrip(":"))


async def test_of_two_workers_one_gets_the_lease_and_the_other_is_told_for_how_long(one: Opened, other: Opened) -> None:
    stored = exact_only()

    first = await leases_of(one).look(TENANT, stored.exact)
    second = await leases_of(other).look(TENANT, stored.exact)

    assert isinstance(first, HeldLease) and isinstance(second, Taken) and 2 < second.left_s <= 3
    assert await leases_of(one).look(TENANT, stored.exact) is None


async def test_the_answer_ends_the_wait_of_other_workers(one: Opened, other: Opened, redis_server: RedisServer) -> None:
    stored = exact_only()
    lease = await taken(leases_of(one), stored.exact)
    follower = await waiting(other, stored.exact)

    await one.store.put(stored, ROOMY)
    lease.end(kept=True)

    found = await asyncio.wait_for(follower, 2)
    assert isinstance(found, Stored) and same(found, stored) and ":lease:" not in redis_server.ask("KEYS", "*")


@pytest.mark.parametrize("count", [1, 3])
async def test_where_the_first_has_no_answer_one_of_those_who_wait_asks(one: Opened, other: Opened, count: int) -> None:
    exact = exact_only().exact
    lease = await taken(leases_of(one), exact)
    followers = [await waiting(other, exact) for _ in range(count)]

    lease.end(kept=False)

    done, rest = await asyncio.wait(followers, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    found = [task.result() for task in done]
    assert any(isinstance(one, HeldLease) for one in found)
    await asyncio.gather(*rest)


async def test_where_there_will_be_nothing_to_share_all_ask_at_once(one: Opened, other: Opened) -> None:
    exact = exact_only().exact
    lease = await taken(leases_of(one), exact)
    followers = [await waiting(other, exact) for _ in range(3)]

    lease.end(kept=False, each=True)

    assert await asyncio.wait_for(asyncio.gather(*followers), 2) == [Alone.EACH] * 3


async def test_a_worker_that_died_is_waited_for_until_its_lease_runs_out(short: Leases, other: Opened) -> None:
    exact = exact_only().exact
    await taken(short, exact)

    follower = await waiting(other, exact)

    assert isinstance(await asyncio.wait_for(follower, 5), HeldLease)


async def test_a_lease_is_renewed_while_it_is_needed(short: Leases, other: Opened) -> None:
    exact = exact_only().exact
    lease = await taken(short, exact)
    short.start()

    await asyncio.sleep(3 * SHORT_S)

    assert isinstance(await leases_of(other).look(TENANT, exact), Taken)
    lease.end(kept=False)
    await eventually(lambda: gets(other, exact))


async def test_a_lease_is_renewed_no_longer_than_anybody_waits_for_it(short: Leases, other: Opened) -> None:
    exact = exact_only().exact
    lease = await taken(short, exact)
    lease.longest_s = lambda: 0.0
    short.start()

    await eventually(lambda: gets(other, exact))
    assert not len(short)


async def test_a_lease_that_redis_has_lost_is_taken_again(
    short: Leases, other: Opened, redis_server: RedisServer
) -> None:
    exact = exact_only().exact
    await taken(short, exact)
    redis_server.ask("FLUSHALL")

    short.start()

    await eventually(lambda: "lease:" in redis_server.ask("KEYS", "*"))
    assert isinstance(await leases_of(other).look(TENANT, exact), Taken)


async def test_a_lease_that_ran_out_does_not_end_the_one_that_came_after_it(short: Leases, other: Opened) -> None:
    exact = exact_only().exact
    late = await taken(short, exact)
    await asyncio.wait_for(await waiting(other, exact), 5)

    late.end(kept=False)
    await short.close()

    assert isinstance(await short.look(TENANT, exact), Taken)


async def test_nobody_waits_longer_than_it_may(one: Opened, other: Opened) -> None:
    exact = exact_only().exact
    await taken(leases_of(one), exact)

    follower = await waiting(other, exact, longest_s=0.05)

    assert await asyncio.wait_for(follower, 2) is Alone.LATE


async def test_without_redis_each_worker_asks_for_itself(one: Opened, redis_server: RedisServer) -> None:
    exact = exact_only().exact
    await taken(leases_of(one), exact)
    async with opened_redis(redis_server, 0.1) as other:
        follower = await waiting(other, exact)

        redis_server.stop()

        with pytest.raises(StoreAway):
            await asyncio.wait_for(follower, 2)
        redis_server.start()


async def test_what_has_expired_is_asked_by_one(one: Opened, other: Opened) -> None:
    stored = exact_only()
    await one.store.put(stored, ROOMY)
    one.clock.now_s = stored.expires_s + 1

    first, second = await leases_of(one).look(TENANT, stored.exact), await leases_of(other).look(TENANT, stored.exact)

    assert isinstance(first, HeldLease) and isinstance(second, Taken)


async def test_a_repeat_costs_one_round_trip_and_a_miss_that_nobody_waits_for_no_word_in_the_log(
    one: Opened, redis_server: RedisServer
) -> None:
    stored = exact_only()
    lease = await taken(leases_of(one), stored.exact)
    assert await leases_of(one).look(TENANT, stored.exact) is None
    before = log_length(redis_server)
    await one.store.put(stored, ROOMY)
    lease.end(kept=True)
    redis_server.ask("CONFIG", "RESETSTAT")

    found = await leases_of(one).look(TENANT, stored.exact)

    calls = [line for line in redis_server.ask("INFO", "commandstats").splitlines() if line.startswith("cmdstat_eval")]
    assert isinstance(found, Stored) and same(found, stored) and log_length(redis_server) == before
    assert [line.split(",")[0] for line in calls] == ["cmdstat_evalsha:calls=1"]


async def test_who_is_cancelled_while_it_looks_leaves_no_lease(one: Opened, other: Opened) -> None:
    exact = exact_only().exact
    looking = asyncio.create_task(leases_of(one).look(TENANT, exact))
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait({looking})

    await eventually(lambda: gets(other, exact), within_s=LEASE_S / 2)


async def test_where_redis_has_no_memory_left_answers_are_found_and_each_asks_for_itself(
    one: Opened, redis_server: RedisServer
) -> None:
    stored = exact_only()
    await one.store.put(stored, ROOMY)
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        found, nothing = [await leases_of(one).look(TENANT, exact) for exact in (stored.exact, stored.id)]
    finally:
        redis_server.ask("CONFIG", "SET", "maxmemory", "0")

    assert isinstance(found, Stored) and same(found, stored) and nothing is None
