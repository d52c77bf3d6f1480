"""The cache's store in a real Redis: several workers, outages, lost and wrong data, memory that runs out."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.cache.base import Quota, StoreAway, Stored, Wanted
from gateway.cache.keeping import size_of
from gateway.cache.store_scripts import LOG, key_of
from tests.contract.cache_stores import OTHER, ROOMY, TENANT, Opened, answer, exact_only, kept, opened_redis, same
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer, redis_running, redis_server
from tests.quickest import quickest, within

__all__ = ["redis_running", "redis_server"]

BOUND_S = 0.03
SLACK_S = 0.05
OWN = ("used", "documents", "rows", "exact", "known", "expiry", "pool:")


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
async def quick(redis_server: RedisServer) -> AsyncIterator[Opened]:
    """A worker with the bound of a real one."""
    async with opened_redis(redis_server, BOUND_S) as opened:
        yield opened
        redis_server.thaw()


async def holds(opened: Opened, *wanted: Stored) -> None:
    """Until a worker can find exactly these."""
    ids = {one.id for one in wanted}
    await eventually(lambda: opened.heard.ids == ids)


async def back(opened: Opened) -> None:
    """Until the store answers again."""

    async def answers() -> bool:
        try:
            await opened.store.tenants()
        except StoreAway:
            return False
        return True

    await eventually(answers)


async def away_s(opened: Opened) -> float:
    """How long a call takes that must fail."""
    begun = time.perf_counter()
    with pytest.raises(StoreAway):
        await opened.store.exact(TENANT, "ff")
    return time.perf_counter() - begun


async def test_what_one_worker_puts_and_drops_the_other_finds_and_loses(one: Opened, other: Opened) -> None:
    stored, passing = answer(), answer()
    for each in (stored, passing):
        await one.store.put(each, ROOMY)
    await holds(other, stored, passing)
    assert same(await other.store.exact(TENANT, stored.exact), stored)

    assert await other.store.drop(TENANT, [passing.id]) == 1

    await holds(one, stored)
    assert await one.store.get(TENANT, passing.id) is None


async def test_a_worker_hears_of_its_own_changes_once(one: Opened, other: Opened) -> None:
    old = answer()
    new = answer(exact=old.exact)
    for each in (old, new):
        await one.store.put(each, ROOMY)
    await one.store.drop(TENANT, [new.id])
    last = answer()
    await other.store.put(last, ROOMY)

    await holds(one, last)

    assert one.heard.told == [
        ("added", old.id), ("dropped", old.id), ("added", new.id), ("dropped", new.id), ("added", last.id),
    ]  # fmt: skip


async def test_counters_stay_exact_with_two_workers_writing_at_once(
    one: Opened, other: Opened, redis_server: RedisServer
) -> None:
    quota = Quota(60, 150_000, reserved=(("code", 0.3),))

    async def write(opened: Opened, seed: int) -> None:
        chance = random.Random(seed)
        made = [answer()]
        for _ in range(100):
            exact = chance.choice(made).exact if chance.random() < 0.2 else f"{chance.getrandbits(128):032x}"
            category = chance.choice(("code", "chat"))
            made.append(answer(size=chance.randrange(100, 6_000), category=category, exact=exact))
            await opened.store.put(made[-1], quota)
            await opened.store.hit(chance.choice(made))
            if chance.random() < 0.1:
                await opened.store.drop(TENANT, [chance.choice(made).id])

    await asyncio.gather(*(write(opened, seed) for seed in range(4) for opened in (one, other)))

    held = [each async for each in one.store.entries(TENANT, Wanted())]
    assert len(held) <= 60 and sum(map(size_of, held)) <= 150_000
    assert counted(redis_server) == (len(held), sum(map(size_of, held)))
    await holds(one, *held)
    await holds(other, *held)


def counted(server: RedisServer) -> tuple[int, int]:
    """Entries and bytes of the tenant, as its counters say."""
    script = (
        "local n, b = 0, 0 for _, held in pairs(cmsgpack.unpack(redis.call('GET', KEYS[1]))[3]) do "
        "n, b = n + held[1], b + held[2] end return n .. ' ' .. b"
    )
    entries, size = server.ask("EVAL", script, "1", key_of(TENANT, "used")).splitlines()[1].split()
    return int(entries), int(size)


async def test_a_worker_that_starts_later_finds_all_that_lives(one: Opened, redis_server: RedisServer) -> None:
    stored = [answer(tenant=tenant) for tenant in (TENANT, OTHER) for _ in range(700)]
    await asyncio.gather(*(one.store.put(each, ROOMY) for each in stored))

    async with opened_redis(redis_server, clock=one.clock) as late:
        await holds(late, *stored)
        assert {(each.tenant, each.id) for each in stored} == set(late.heard.known)


async def test_what_changes_while_a_worker_starts_is_not_missed(one: Opened, redis_server: RedisServer) -> None:
    stored = [answer() for _ in range(900)]
    await asyncio.gather(*(one.store.put(each, ROOMY) for each in stored))

    async with opened_redis(redis_server, clock=one.clock) as late:
        for old in stored[:300]:
            await one.store.drop(TENANT, [old.id])
            await late.store.put(new := answer(exact=old.exact), ROOMY)
            stored.append(new)

        await holds(late, *stored[300:])
        await holds(one, *stored[300:])


async def test_what_has_expired_leaves_nothing_behind_though_nobody_puts(
    one: Opened, other: Opened, redis_server: RedisServer
) -> None:
    for each in (answer(), exact_only(), answer(tenant=OTHER, category="chat")):
        await one.store.put(each, Quota(10, 10**6, reserved=(("chat", 0.5),)))
    one.clock.now_s += 600

    assert await one.store.tenants() == []

    await holds(one)
    await holds(other)
    assert LOG in redis_server.ask("KEYS", "*")
    assert redis_server.ask("DBSIZE") == ":1\r\n"


async def test_all_keys_of_a_tenant_expire_an_hour_after_its_last_answer(
    one: Opened, redis_server: RedisServer
) -> None:
    stored = answer()
    await one.store.put(stored, ROOMY)

    assert await one.store.put(answer(expires_s=stored.expires_s - 300), ROOMY)

    script = "return tostring(redis.call('PTTL', KEYS[1]) / 1000 + redis.call('TIME')[1])"
    for name in OWN:
        ends = float(redis_server.ask("EVAL", script, "1", key_of(TENANT, name)).splitlines()[1])
        assert ends == pytest.approx(stored.expires_s + 3_600, abs=5), name


async def test_a_frozen_redis_costs_its_bound_once_then_nothing_and_is_used_again(
    quick: Opened, redis_server: RedisServer
) -> None:
    await quick.store.put(stored := answer(), ROOMY)
    redis_server.freeze()

    assert await away_s(quick) < BOUND_S + SLACK_S
    assert sorted([await away_s(quick) for _ in range(100)])[50] < 0.001
    for call in (quick.store.put(answer(), ROOMY), quick.store.hit(stored), quick.store.drop(TENANT, [stored.id])):
        with pytest.raises(StoreAway):
            await call
    with pytest.raises(StoreAway):
        await kept(quick.store)

    redis_server.thaw()
    await back(quick)
    assert same(await quick.store.get(TENANT, stored.id), stored)


async def test_after_redis_was_killed_the_cache_begins_anew(quick: Opened, redis_server: RedisServer) -> None:
    await quick.store.put(answer(), ROOMY)
    redis_server.stop(signal.SIGKILL)

    assert await away_s(quick) < BOUND_S + SLACK_S

    redis_server.start()
    await back(quick)
    await holds(quick)
    assert await kept(quick.store) == set()
    await quick.store.put(stored := answer(), ROOMY)
    assert same(await quick.store.get(TENANT, stored.id), stored)


async def test_a_redis_that_comes_back_with_its_data_is_followed_on(
    one: Opened, other: Opened, redis_server: RedisServer, saved: None
) -> None:
    await one.store.put(stored := answer(), ROOMY)
    await holds(other, stored)
    redis_server.ask("SAVE")

    redis_server.stop(signal.SIGKILL)
    redis_server.start()

    await back(one)
    await one.store.put(new := answer(), ROOMY)
    await holds(other, stored, new)
    assert other.heard.clears == 1


async def test_a_redis_that_comes_back_with_older_data_is_read_anew(
    one: Opened, other: Opened, redis_server: RedisServer, saved: None
) -> None:
    await one.store.put(stored := answer(), ROOMY)
    redis_server.ask("SAVE")
    await one.store.put(lost := answer(), ROOMY)
    await holds(other, stored, lost)

    redis_server.stop(signal.SIGKILL)
    redis_server.start()

    for opened in (one, other):
        await holds(opened, stored)
        await back(opened)
        assert await opened.store.get(TENANT, lost.id) is None


@pytest.fixture
def saved(redis_server: RedisServer) -> Iterator[None]:
    """What a test has saved is not found by the next one."""
    yield
    (redis_server.folder / "dump.rdb").unlink(missing_ok=True)


async def test_a_redis_that_is_flushed_is_noticed(one: Opened, other: Opened, redis_server: RedisServer) -> None:
    await one.store.put(answer(), ROOMY)

    redis_server.ask("FLUSHALL")

    await holds(one)
    await holds(other)


async def test_who_missed_changes_that_were_trimmed_away_reads_all_anew(
    one: Opened, other: Opened, redis_server: RedisServer
) -> None:
    await one.store.put(stored := answer(), ROOMY)
    await holds(other, stored)

    script = "redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) redis.call('HDEL', KEYS[2], ARGV[1])"
    redis_server.ask("EVAL", script, "2", LOG, key_of(TENANT, "known"), stored.id)
    await one.store.put(new := answer(), ROOMY)

    await holds(other, new)
    assert other.heard.clears == 2


async def test_a_connection_that_breaks_loses_nothing(one: Opened, other: Opened, redis_server: RedisServer) -> None:
    stored = [answer() for _ in range(100)]
    for number, each in enumerate(stored):
        if number % 30 == 5:
            redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await back(one)
        await one.store.put(each, ROOMY)

    await holds(other, *stored)
    assert other.heard.clears == 1


async def test_nothing_is_lost_over_a_stall_of_five_seconds(one: Opened, redis_server: RedisServer) -> None:
    command = [sys.executable, "-m", "tests.integration.cache_listener", redis_server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
            os.kill(worker.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            stored = [answer() for _ in range(3_000)]
            for each in stored:
                await one.store.put(each, Quota(2_000, 10**8))
            await one.store.drop(TENANT, [each.id for each in stored[-100:]])
            await asyncio.sleep(max(0.0, 5.0 - (time.monotonic() - stopped)))

            os.kill(worker.pid, signal.SIGCONT)
            said, _ = await asyncio.to_thread(worker.communicate, answer_id := stored[-101].id, timeout=30)
        finally:
            worker.kill()

    assert answer_id in one.heard.ids
    assert json.loads(said) == {"clears": 1, "ids": sorted(one.heard.ids)}


@quickest
async def test_others_hear_within_milliseconds(one: Opened, other: Opened) -> None:
    took = []
    for number in range(1, 101):
        begun = time.perf_counter()
        await one.store.put(answer(), ROOMY)
        await eventually(lambda wanted=number: len(other.heard.known) == wanted, every_s=0)  # type: ignore[misc]
        took.append(time.perf_counter() - begun)
    other.heard.known.clear()

    within(0.004, sorted(took)[50])
