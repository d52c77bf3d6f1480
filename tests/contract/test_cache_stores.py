"""What every store of the cache must do, one after the other; and that all of them keep and give up the same."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from gateway.cache.base import Quota, Store, Wanted
from gateway.cache.sealed import Sealed
from tests.contract.cache_stores import (
    OTHER,
    ROOMY,
    START_S,
    TENANT,
    Opened,
    answer,
    exact_only,
    kept,
    opened_memory,
    opened_redis,
    same,
)
from tests.integration.redis_server import redis_running, redis_server

__all__ = ["redis_running", "redis_server"]

HOSTILE = ("{a}:b", "a}:documents", "", "a\0b", "line\r\nline", "*", "\ud800", "ключ", "x" * 10_000)


@pytest.fixture(params=["memory", "redis", "sealed"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """The store under test, empty."""
    if request.param == "memory":
        async with opened_memory() as found:
            yield found
    else:
        form = Sealed([random.randbytes(32)]) if request.param == "sealed" else None
        async with opened_redis(request.getfixturevalue("redis_server"), form=form) as found:
            yield found


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


async def test_an_answer_comes_back_whole_by_its_fingerprint_and_by_its_id(store: Store) -> None:
    stored = answer(tags=("a", "b"), end_user="someone", body='{"é": "\\u0000"}'.encode() * 100)

    assert await store.put(stored, ROOMY)

    assert same(await store.exact(TENANT, stored.exact), stored)
    assert same(await store.get(TENANT, stored.id), stored)


@pytest.mark.parametrize("body", [b"", b"{}", random.Random(1).randbytes(1_000_000), b"a" * 3_000_000])
async def test_bodies_of_any_kind_come_back(store: Store, body: bytes) -> None:
    stored = exact_only(body=body)

    assert await store.put(stored, ROOMY)

    assert same(await store.exact(TENANT, stored.exact), stored)


async def test_what_is_not_there_is_nothing(store: Store) -> None:
    await store.put(answer(), ROOMY)

    assert await store.exact(TENANT, "ff") is None
    assert await store.get(TENANT, "ff") is None
    assert await store.get(TENANT, "") is None


async def test_the_listener_hears_before_put_returns_and_only_of_what_can_be_found(opened: Opened) -> None:
    found, hidden = answer(), exact_only()

    for one in (found, hidden):
        await opened.store.put(one, ROOMY)

    (known,) = opened.heard.known.values()
    assert (known.id, known.tenant, known.partition) == (found.id, found.tenant, found.partition)
    assert (known.text, known.topic, known.embedder) == (found.text, found.topic, found.embedder)
    assert known.expires_s == found.expires_s


async def test_an_answer_is_given_out_until_it_expires_and_hits_do_not_move_that(opened: Opened) -> None:
    stored = answer(expires_s=START_S + 100)
    await opened.store.put(stored, ROOMY)
    opened.clock.now_s = START_S + 99.5
    for _ in range(3):
        await opened.store.hit(stored)
    before = await opened.store.get(TENANT, stored.id)

    opened.clock.now_s = START_S + 100

    assert same(before, stored)
    assert await opened.store.get(TENANT, stored.id) is None
    assert await opened.store.exact(TENANT, stored.exact) is None
    assert await kept(opened.store) == set()


async def test_what_has_expired_is_given_to_those_only_who_take_it_stale_and_for_as_long_as_it_is_kept(
    opened: Opened,
) -> None:
    stored = answer(expires_s=START_S + 100, stale_s=50.0)
    await opened.store.put(stored, ROOMY)
    opened.clock.now_s = START_S + 120
    await opened.store.hit(stored)

    async def given(stale_s: float) -> list[bool]:
        found = (
            await opened.store.exact(TENANT, stored.exact, stale_s),
            await opened.store.get(TENANT, stored.id, stale_s),
        )
        return [same(one, stored) for one in found]

    assert [await given(stale_s) for stale_s in (0.0, 20.0, 20.5, 1e9)] == [[False] * 2] * 2 + [[True] * 2] * 2
    assert await kept(opened.store) == {stored.id} == opened.heard.ids
    assert await opened.store.tenants() == [TENANT]
    opened.clock.now_s = START_S + 150
    assert await given(1e9) == [False] * 2
    assert await kept(opened.store) == set()


async def test_what_is_kept_stale_counts_for_the_quota_and_can_be_dropped(opened: Opened) -> None:
    stale = [answer(expires_s=START_S + 10, stale_s=1000.0, cost_nanousd=0) for _ in range(3)]
    for one in stale:
        await opened.store.put(one, Quota(3, 1_000_000))
    opened.clock.now_s += 20

    await opened.store.put(lasting := answer(), Quota(3, 1_000_000))

    left = await kept(opened.store)
    assert len(left) == 3 and lasting.id in left
    assert await opened.store.drop(TENANT, [one.id for one in stale]) == 2
    assert await kept(opened.store) == {lasting.id}


async def test_what_has_expired_leaves_its_room_to_others_and_the_listener_hears(opened: Opened) -> None:
    quota = Quota(10, 1_000_000)
    old = [answer(expires_s=START_S + 10, cost_nanousd=10**12) for _ in range(9)]
    lasting = answer(cost_nanousd=1)
    for one in (*old, lasting):
        await opened.store.put(one, quota)
    opened.clock.now_s += 10

    new = answer()
    await opened.store.put(new, quota)

    assert opened.heard.ids == await kept(opened.store) == {lasting.id, new.id}


async def test_what_has_expired_already_is_not_kept(opened: Opened) -> None:
    assert not await opened.store.put(answer(expires_s=START_S), ROOMY)
    assert opened.heard.ids == await kept(opened.store) == set()


async def test_an_answer_that_never_expires_is_kept(store: Store) -> None:
    stored = answer(expires_s=float("inf"))

    assert await store.put(stored, ROOMY)

    assert same(await store.get(TENANT, stored.id), stored)


async def test_the_newest_of_one_fingerprint_replaces_the_older_one(opened: Opened) -> None:
    old = answer()
    new = answer(exact=old.exact)

    for one in (old, new):
        await opened.store.put(one, ROOMY)

    assert same(await opened.store.exact(TENANT, old.exact), new)
    assert await opened.store.get(TENANT, old.id) is None
    assert opened.heard.ids == await kept(opened.store) == {new.id}


async def test_an_id_that_is_put_again_is_one_answer(opened: Opened) -> None:
    old = answer()
    new = answer(id=old.id)

    for one in (old, new, new):
        await opened.store.put(one, ROOMY)

    assert await opened.store.exact(TENANT, old.exact) is None
    assert same(await opened.store.get(TENANT, old.id), new)
    assert opened.heard.known[TENANT, new.id].text == new.text
    assert await opened.store.drop(TENANT, [new.id]) == 1


async def test_tenants_never_see_each_other_not_even_by_id(opened: Opened) -> None:
    ours = answer()
    theirs = replace(ours, tenant=OTHER, body=b"theirs")
    for one in (ours, theirs):
        await opened.store.put(one, ROOMY)
    lonely = answer()
    await opened.store.put(lonely, ROOMY)

    assert await opened.store.exact(OTHER, lonely.exact) is None
    assert await opened.store.get(OTHER, lonely.id) is None
    assert await opened.store.drop(OTHER, [lonely.id]) == 0
    assert await kept(opened.store, OTHER, Wanted(ids=(lonely.id,))) == set()
    assert same(await opened.store.exact(OTHER, ours.exact), theirs)
    assert same(await opened.store.get(TENANT, ours.id), ours)
    assert await opened.store.drop(OTHER, [ours.id]) == 1
    assert same(await opened.store.get(TENANT, ours.id), ours)
    assert (TENANT, ours.id) in opened.heard.known and (OTHER, ours.id) not in opened.heard.known


async def test_one_tenants_quota_is_none_of_anothers(store: Store) -> None:
    await store.put(stays := answer(cost_nanousd=0), Quota(1, 10**6))

    for _ in range(5):
        await store.put(answer(tenant=OTHER, cost_nanousd=10**9), Quota(1, 10**6))

    assert await kept(store) == {stays.id}
    assert len(await kept(store, OTHER)) == 1
    assert set(await store.tenants()) == {TENANT, OTHER}


async def test_what_is_dropped_is_gone_and_counted_once(opened: Opened) -> None:
    stored = [answer() for _ in range(500)]
    for one in stored:
        await opened.store.put(one, ROOMY)
    ids = [one.id for one in stored[:450]]

    assert await opened.store.drop(TENANT, [*ids, *ids, "ff"]) == 450

    assert opened.heard.ids == await kept(opened.store) == {one.id for one in stored[450:]}
    assert await opened.store.drop(TENANT, ids) == 0
    assert await opened.store.exact(TENANT, stored[0].exact) is None


async def test_a_tenant_who_keeps_nothing_is_not_named(opened: Opened) -> None:
    await opened.store.put(stored := answer(), ROOMY)
    await opened.store.put(answer(tenant=OTHER, expires_s=START_S + 1), ROOMY)
    assert set(await opened.store.tenants()) == {TENANT, OTHER}

    opened.clock.now_s += 1
    assert await opened.store.tenants() == [TENANT]
    await opened.store.drop(TENANT, [stored.id])

    assert await opened.store.tenants() == []


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(category="chat"),
        Wanted(model="small"),
        Wanted(tag="v2"),
        Wanted(end_user="u"),
        Wanted(older_s=START_S - 5),
        Wanted(category="chat", model="small", tag="v2", end_user="u", older_s=START_S),
    ],
)
async def test_entries_are_chosen_by_every_field(store: Store, wanted: Wanted) -> None:
    fits = answer(category="chat", model="small", tags=("v1", "v2"), end_user="u", created_s=START_S - 10)
    for one in (fits, *(answer(tags=("v1",)) for _ in range(5))):
        await store.put(one, ROOMY)

    assert await kept(store, wanted=wanted) == {fits.id}
    assert await kept(store, wanted=replace(wanted, ids=(fits.id, "ff", fits.id))) == {fits.id}
    assert await kept(store, wanted=replace(wanted, ids=("ff",))) == set()


async def test_all_of_many_entries_come_once_while_others_come_and_go(store: Store) -> None:
    stay = [exact_only() for _ in range(700)]
    for one in stay:
        await store.put(one, ROOMY)

    seen = []
    async for one in store.entries(TENANT, Wanted()):
        seen.append(one.id)
        if len(seen) % 7 == 0:
            await store.put(passing := exact_only(), ROOMY)
            await store.drop(TENANT, [passing.id])

    assert len(seen) == len(set(seen))
    assert {one.id for one in stay} <= set(seen)


@pytest.mark.parametrize("vector", [np.full(8, np.nan), np.zeros(8), np.full(8, np.inf), np.ones((2, 4)), np.ones(8)])
async def test_an_answer_whose_vector_is_no_direction_is_found_by_exact_repeats_only(
    opened: Opened, vector: np.ndarray
) -> None:
    stored = answer(vector=vector.astype(np.float32))

    assert await opened.store.put(stored, ROOMY)

    found = await opened.store.exact(TENANT, stored.exact)
    assert found is not None and found.vector is None and found.body == stored.body
    assert opened.heard.ids == set()


@pytest.mark.parametrize("word", HOSTILE)
async def test_names_of_any_kind_are_only_names(opened: Opened, word: str) -> None:
    plain, store = answer(), opened.store
    odd = answer(tenant=word, category=word, text=word, model=word, tags=(word,), end_user=word, partition=word)
    quota = Quota(10, 10**6, reserved=((word, 0.5),))
    for one in (plain, odd):
        assert await store.put(one, quota)

    assert same(await store.exact(word, odd.exact), odd)
    assert same(await store.get(TENANT, plain.id), plain)
    assert await kept(store, word, Wanted(category=word, tag=word)) == {odd.id}
    assert set(await store.tenants()) == {TENANT, word}
    assert await store.get(TENANT, word) is None and await store.exact(TENANT, word) is None
    assert await store.drop(TENANT, [word]) == 0
    assert await store.drop(word, [odd.id]) == 1
    assert opened.heard.ids == {plain.id}
