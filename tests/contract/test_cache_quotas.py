"""What a quota means to every store of the cache: who is kept, who gives way, and that all of them decide alike."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.cache.base import Quota, Store, Wanted
from gateway.cache.keeping import size_of
from tests.contract.cache_stores import (
    ROOMY,
    TENANT,
    Opened,
    answer,
    exact_only,
    kept,
    opened_memory,
    opened_redis,
    same,
)
from tests.contract.test_cache_stores import opened, store
from tests.integration.redis_server import RedisServer, redis_running, redis_server

__all__ = ["opened", "redis_running", "redis_server", "store"]


async def test_an_older_answer_stays_where_the_newer_one_is_too_large(store: Store) -> None:
    old = exact_only()
    await store.put(old, Quota(10, 1_500))

    assert not await store.put(exact_only(exact=old.exact, size=1_501), Quota(10, 1_500))
    assert same(await store.exact(TENANT, old.exact), old)


@pytest.mark.parametrize("quota", [Quota(0, 10_000), Quota(10, 0), Quota(10, 999)])
async def test_what_is_larger_than_the_quota_is_not_kept_and_drives_nobody_out(store: Store, quota: Quota) -> None:
    await store.put(stays := exact_only(), ROOMY)

    assert not await store.put(exact_only(), quota)

    assert await kept(store) == {stays.id}


async def test_a_quota_is_never_exceeded_by_entries_or_bytes(opened: Opened) -> None:
    quota, chance = Quota(12, 20_000), random.Random(7)
    for _ in range(120):
        await opened.store.put(answer(size=chance.randrange(10, 6_000)), quota)

        held = [one async for one in opened.store.entries(TENANT, Wanted())]
        assert len(held) <= 12 and sum(map(size_of, held)) <= 20_000
        assert opened.heard.ids == {one.id for one in held}


async def test_many_writers_at_once_do_not_exceed_the_quota(opened: Opened) -> None:
    quota = Quota(20, 50_000)

    await asyncio.gather(*(opened.store.put(answer(size=2_000), quota) for _ in range(200)))

    assert len(await kept(opened.store)) == 20
    assert opened.heard.ids == await kept(opened.store)


async def test_who_saves_least_per_byte_gives_way_first(store: Store) -> None:
    cheap = exact_only(cost_nanousd=1_000)
    large = exact_only(cost_nanousd=1_000_000, size=100_000)
    dear = exact_only(cost_nanousd=1_000_000)
    for one in (dear, large, cheap):
        await store.put(one, Quota(3, 10**6))

    for gone in (cheap, large):
        await store.put(exact_only(cost_nanousd=10**9), Quota(3, 10**6))
        assert gone.id not in await kept(store)

    assert dear.id in await kept(store)


async def test_an_answer_that_was_asked_for_again_outlives_its_equals(store: Store) -> None:
    equals = [exact_only() for _ in range(5)]
    for one in equals:
        await store.put(one, Quota(5, 10**6))
    await store.hit(equals[2])

    for _ in range(4):
        await store.put(exact_only(cost_nanousd=1_500_000), Quota(5, 10**6))

    assert {one.id for one in equals} & await kept(store) == {equals[2].id}


async def test_an_answer_that_was_once_popular_gives_way_in_the_end(store: Store) -> None:
    popular = exact_only()
    await store.put(popular, Quota(3, 10**6))
    for _ in range(20):
        await store.hit(popular)

    stayed = 0
    while popular.id in await kept(store):
        await store.put(exact_only(), Quota(3, 10**6))
        stayed += 1

    assert 20 < stayed < 60


async def test_a_hit_of_what_is_gone_does_nothing(store: Store) -> None:
    await store.hit(answer())
    await store.put(stored := answer(), ROOMY)
    await store.drop(TENANT, [stored.id])

    await store.hit(stored)

    assert await kept(store) == set()
    assert await store.tenants() == []


async def test_a_category_borrows_what_others_do_not_use_and_gives_it_back_first(store: Store) -> None:
    quota = Quota(10, 10**6, reserved=(("code", 0.5), ("support", 0.3)))
    borrowed = [exact_only(category="support", cost_nanousd=10**9) for _ in range(10)]
    for one in borrowed:
        assert await store.put(one, quota)
    assert len(await kept(store)) == 10

    for number in range(1, 6):
        assert await store.put(exact_only(category="code", cost_nanousd=1), quota)
        assert len(await kept(store, wanted=Wanted(category="code"))) == number

    for _ in range(20):
        assert await store.put(exact_only(category="code"), quota)
        assert len(await kept(store, wanted=Wanted(category="support"))) >= 3
    assert len(await kept(store)) == 10


async def test_nobody_takes_what_a_category_is_sure_of(store: Store) -> None:
    quota = Quota(10, 10**6, reserved=(("code", 0.5),))
    sure = [exact_only(category="code", cost_nanousd=0, output_tokens=0) for _ in range(5)]
    for one in sure:
        await store.put(one, quota)

    for number in range(30):
        await store.put(exact_only(category=f"other-{number % 3}", cost_nanousd=10**9), quota)

    assert {one.id for one in sure} <= await kept(store)
    assert len(await kept(store)) == 10


async def test_bytes_are_reserved_as_entries_are(store: Store) -> None:
    quota = Quota(1_000, 10_000, reserved=(("code", 0.5),))
    sure = [exact_only(category="code", cost_nanousd=0, size=1_000) for _ in range(5)]
    for one in (*sure, *(exact_only(category="other", size=1_000) for _ in range(20))):
        await store.put(one, quota)

    assert {one.id for one in sure} <= await kept(store)
    assert len(await kept(store)) == 10
    assert not await store.put(exact_only(category="other", size=5_001), quota)
    assert await store.put(exact_only(category="code", size=10_000), quota)


async def test_without_room_but_what_others_are_sure_of_nothing_is_kept(store: Store) -> None:
    quota = Quota(4, 10**6, reserved=(("code", 0.5), ("support", 0.5)))
    for category in ("code", "support") * 2:
        await store.put(exact_only(category=category), quota)
    before = await kept(store)

    assert not await store.put(exact_only(category="other"), quota)

    assert await kept(store) == before


async def test_shares_that_sum_to_more_than_all_are_scaled_down(store: Store) -> None:
    quota = Quota(8, 10**6, reserved=(("code", 1.0), ("support", 1.0)))
    for number in range(30):
        assert await store.put(exact_only(category=("code", "support")[number % 2]), quota)

    assert len(await kept(store, wanted=Wanted(category="code"))) == 4


async def test_a_quota_that_shrinks_is_kept_to_with_the_next_answer(store: Store) -> None:
    for _ in range(20):
        await store.put(exact_only(), ROOMY)

    await store.put(exact_only(), Quota(5, 10**6, reserved=(("code", 0.2),)))

    assert len(await kept(store)) == 5


@pytest.mark.parametrize("seed", range(4))
async def test_all_stores_keep_and_give_up_the_same(redis_server: RedisServer, seed: int) -> None:
    chance = random.Random(seed)
    quota = Quota(15, 40_000, reserved=(("code", 0.3), ("support", 0.25)))
    async with opened_memory() as one, opened_redis(redis_server) as other:
        made = [answer()]
        for _ in range(400):
            what = chance.random()
            for opened in (one, other):
                opened.clock.now_s = one.clock.now_s
            if what < 0.6:
                exact = chance.choice(made).exact if chance.random() < 0.2 else f"{chance.getrandbits(128):032x}"
                made.append(
                    answer(
                        exact=exact,
                        category=chance.choice(("code", "support", "chat", "math")),
                        size=chance.randrange(100, 9_000),
                        cost_nanousd=chance.randrange(10**7),
                        expires_s=one.clock.now_s + chance.randrange(1, 200),
                    )
                )
                assert await one.store.put(made[-1], quota) == await other.store.put(made[-1], quota)
            elif what < 0.85:
                hit = chance.choice(made[-30:])
                await asyncio.gather(one.store.hit(hit), other.store.hit(hit))
            elif what < 0.9:
                ids = [found.id for found in chance.sample(made, min(3, len(made)))]
                assert await one.store.drop(TENANT, ids) == await other.store.drop(TENANT, ids)
            else:
                one.clock.now_s = other.clock.now_s = one.clock.now_s + chance.randrange(20)
            assert await kept(one.store) == await kept(other.store)
            assert one.heard.ids == other.heard.ids
