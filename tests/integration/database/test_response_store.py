"""Stored responses on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.response_store import ResponseStore, StoredResponse

DAY_S = 86_400.0
ONE = StoredResponse("resp_1", "key-a", '{"id":"resp_1"}', '[{"role":"user"}]', "resp_0", "ann")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: AsyncEngine, clock: Clock) -> ResponseStore:
    return ResponseStore(engine, now=clock)


async def test_a_response_is_its_keys_own(store: ResponseStore) -> None:
    await store.put(ONE)

    assert await store.get("resp_1", "key-a") == ONE
    assert await store.get("resp_1", "key-b") is None
    assert await store.get("resp_2", "key-a") is None


async def test_another_key_can_neither_delete_nor_replace_it(store: ResponseStore) -> None:
    await store.put(ONE)
    await store.put(replace(ONE, key_id="key-b", body="{}"))

    assert await store.delete("resp_1", "key-b") is False
    assert await store.get("resp_1", "key-a") == ONE
    assert await store.delete("resp_1", "key-a") is True
    assert await store.get("resp_1", "key-a") is None


@pytest.mark.parametrize("odd", ["", "resp\0", "resp 1", "r" * 300, "réponse"])
async def test_what_is_no_id_is_not_asked_for(store: ResponseStore, odd: str) -> None:
    await store.put(replace(ONE, id=odd))

    assert await store.get(odd, "key-a") is None
    assert await store.delete(odd, "key-a") is False


async def test_a_users_name_may_hold_what_the_database_does_not_take(store: ResponseStore) -> None:
    await store.put(replace(ONE, end_user="an\0n"))

    assert await store.get("resp_1", "key-a") == ONE


async def test_after_thirty_days_it_is_no_longer_found(store: ResponseStore, clock: Clock) -> None:
    await store.put(ONE)
    clock.at += 30 * DAY_S - 1
    assert await store.get("resp_1", "key-a") == ONE

    clock.at += 1

    assert await store.get("resp_1", "key-a") is None
    assert await store.delete("resp_1", "key-a") is False


async def test_a_database_that_is_away_is_said_to_be_away() -> None:
    engine = open_engine("sqlite:////proc/nowhere/fingerpost.sqlite3")
    store = ResponseStore(engine)

    with pytest.raises(DatabaseUnavailable):
        await store.get("resp_1", "key-a")
    with pytest.raises(DatabaseUnavailable):
        await store.put(ONE)
    await engine.dispose()
