"""The cache's store in a real Redis whose data are damaged: overwritten, evicted, corrupt, or no memory for more."""

from __future__ import annotations

import os

import pytest

from gateway.cache.base import Quota, StoreAway
from gateway.cache.keeping import size_of
from gateway.cache.store_scripts import DUE, LOG, key_of
from tests.contract.cache_stores import OTHER, ROOMY, TENANT, Opened, answer, kept, opened_redis, same
from tests.integration.redis_server import RedisServer, redis_running, redis_server
from tests.integration.test_redis_cache import OWN, counted, holds, one, other

__all__ = ["one", "other", "redis_running", "redis_server"]


@pytest.mark.parametrize("name", OWN)
async def test_what_others_wrote_into_a_key_is_a_miss_and_mended_by_the_next_answer(
    one: Opened, other: Opened, redis_server: RedisServer, name: str
) -> None:
    await one.store.put(stored := answer(), ROOMY)
    await holds(other, stored)
    for value in (("SET", "text"), ("RPUSH", "a", "b"), ("HSET", stored.id, "x", stored.exact, "y")):
        redis_server.ask("DEL", key_of(TENANT, name))
        redis_server.ask(value[0], key_of(TENANT, name), *value[1:])

        for found in (await one.store.exact(TENANT, stored.exact), await one.store.get(TENANT, stored.id)):
            assert found is None or same(found, stored)
        await one.store.hit(stored)

        await one.store.put(stored := answer(), ROOMY)
        assert same(await one.store.exact(TENANT, stored.exact), stored)
        assert await kept(one.store) == {stored.id}
        assert counted(redis_server) == (1, size_of(stored))
        await holds(other, stored)
        await holds(one, stored)


@pytest.mark.parametrize("name", OWN)
async def test_a_key_that_redis_has_evicted_costs_hits_and_nothing_else(
    one: Opened, other: Opened, redis_server: RedisServer, name: str
) -> None:
    old = [answer() for _ in range(5)]
    for each in old:
        await one.store.put(each, Quota(5, 10**6))

    redis_server.ask("DEL", key_of(TENANT, name))

    for each in old:
        found = await one.store.exact(TENANT, each.exact)
        assert found is None or same(found, each)
    new = [answer() for _ in range(5)]
    for each in new:
        await one.store.put(each, Quota(5, 10**6))
    assert await kept(one.store) == {each.id for each in new}
    await holds(one, *new)
    await holds(other, *new)


@pytest.mark.parametrize("key", [LOG, DUE])
async def test_what_others_wrote_into_the_common_keys_is_replaced(
    one: Opened, other: Opened, redis_server: RedisServer, key: str
) -> None:
    redis_server.ask("SET", key, "text")

    await one.store.put(stored := answer(), ROOMY)

    await holds(other, stored)
    assert await one.store.tenants() == [TENANT]


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:]]
)
async def test_a_corrupt_document_is_deleted_and_a_miss(one: Opened, other: Opened, damage: object) -> None:
    await one.store.put(stored := answer(), ROOMY)
    await holds(other, stored)
    link = one.store._link  # type: ignore[attr-defined] # it speaks bytes
    key = key_of(TENANT, "documents")
    await link.call("HSET", key, stored.id, damage(await link.call("HGET", key, stored.id)))  # type: ignore[operator]

    assert await one.store.exact(TENANT, stored.exact) is None

    await holds(one)
    await holds(other)
    assert await one.store.tenants() == []


async def test_one_answers_document_is_none_of_anothers(one: Opened) -> None:
    ours, theirs = answer(), answer(tenant=OTHER)
    for each in (ours, theirs):
        await one.store.put(each, ROOMY)
    link = one.store._link  # type: ignore[attr-defined] # it speaks bytes
    for name in ("documents", "known"):
        data = await link.call("HGET", key_of(OTHER, name), theirs.id)
        await link.call("HSET", key_of(TENANT, name), ours.id, data)

    assert await one.store.get(TENANT, ours.id) is None
    assert same(await one.store.get(OTHER, theirs.id), theirs)


async def test_without_memory_nothing_new_is_kept_and_all_else_goes_on(
    one: Opened, other: Opened, redis_server: RedisServer
) -> None:
    stored = [answer(size=20_000) for _ in range(20)]
    for each in stored:
        await one.store.put(each, ROOMY)
    await holds(other, *stored)
    redis_server.ask("CONFIG", "SET", "maxmemory", "1mb")
    try:
        for _ in range(3):
            with pytest.raises(StoreAway):
                await one.store.put(answer(), ROOMY)
        with pytest.raises(StoreAway):
            await one.store.hit(stored[0])
        assert same(await one.store.exact(TENANT, stored[0].exact), stored[0])
        assert await one.store.drop(TENANT, [stored[0].id]) == 1
        await holds(other, *stored[1:])
        assert counted(redis_server) == (19, sum(map(size_of, stored[1:])))
    finally:
        redis_server.ask("CONFIG", "SET", "maxmemory", "0")

    await one.store.put(stored[0], ROOMY)
    assert await kept(one.store) == {each.id for each in stored}


async def test_under_eviction_by_redis_no_call_fails_and_no_answer_is_wrong(
    one: Opened, redis_server: RedisServer
) -> None:
    redis_server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    redis_server.ask("CONFIG", "SET", "maxmemory", "4mb")
    try:
        stored = [answer(tenant=f"organisation:{number % 20}", body=os.urandom(20_000)) for number in range(300)]
        for each in stored:
            try:
                await one.store.put(each, ROOMY)
            except StoreAway:
                continue
            found = await one.store.get(each.tenant, each.id)
            assert found is None or same(found, each)
    finally:
        redis_server.ask("CONFIG", "SET", "maxmemory", "0")
        redis_server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_names_and_changes_that_are_none_of_ours_are_passed_over(
    one: Opened, other: Opened, redis_server: RedisServer
) -> None:
    link = one.store._link  # type: ignore[attr-defined] # it speaks bytes
    await link.call("ZADD", DUE, 1, b"\xff\xfe")
    for words in ((b"t", b"\xff"), (b"k", b"?"), (b"t", TENANT, b"i", b"\xff", b"k", b"?", b"d", b"\xff")):
        await link.call("XADD", LOG, "*", *words)

    await one.store.put(stored := answer(), ROOMY)

    await holds(other, stored)
    assert TENANT in await one.store.tenants()
    async with opened_redis(redis_server, clock=one.clock) as late:
        await holds(late, stored)
