"""Virtual keys on both databases."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.key_store import KeyStore, token_hash
from gateway.admission.keys import Keyring, KeyStoreUnavailable
from gateway.admission.rules import Caller, Scope
from gateway.ledger.acts import Change
from gateway.ledger.engine import open_engine


@pytest.fixture
def store(engine: AsyncEngine) -> KeyStore:
    """An empty store."""
    return KeyStore(engine)


async def test_an_issued_key_is_found_by_the_hash_of_its_whole_token(store: KeyStore) -> None:
    row, token = await store.issue("shop", policy="thrifty", allowed_models=["gpt-*"], metadata={"team": "web"})

    assert re.fullmatch(r"fp-[a-z0-9]{12}-[A-Za-z0-9_-]{43}", token) and row.id == token[3:15]
    found = await store.find(hashlib.sha256(token.encode()).hexdigest())
    assert found is not None and (found.caller.key_id, found.sha256) == (row.id, row.sha256)
    assert await store.get(row.id) == row
    assert (row.role, row.policy, row.allowed_models, row.metadata) == (
        "application",
        "thrifty",
        ("gpt-*",),
        {"team": "web"},
    )
    assert await store.find(token_hash(token[:-1])) is None


async def test_no_part_of_the_secret_is_stored(store: KeyStore, engine: AsyncEngine) -> None:
    _, token = await store.issue("shop")

    async with engine.connect() as connection:
        stored = str((await connection.execute(text("SELECT * FROM api_key"))).all())

    assert token[16:28] not in stored and token_hash(token) in stored


async def test_keys_are_listed_oldest_first_and_counted_by_role(store: KeyStore) -> None:
    rows = [(await store.issue("a", "admin"))[0], (await store.issue("b", "application"))[0]]
    revoked, _ = await store.issue("c")
    expired, _ = await store.issue("d", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    await store.revoke(revoked.id)

    assert [row.id for row in await store.list()] == [*(row.id for row in rows), revoked.id, expired.id]
    assert (await store.count("admin"), await store.count("application")) == (1, 1)


async def test_a_key_is_revoked_once(store: KeyStore) -> None:
    row, token = await store.issue("shop")

    assert await store.revoke(row.id) is True
    assert await store.revoke(row.id) is False
    assert await store.revoke("nobody") is False
    found = await store.find(token_hash(token))
    assert found is not None and not found.is_valid(time.time())


async def test_an_expiry_is_kept_to_the_microsecond_and_naive_times_are_utc(store: KeyStore) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    aware, _ = await store.issue("aware", expires_at=moment.astimezone(tz=None))
    naive, _ = await store.issue("naive", expires_at=moment.replace(tzinfo=None))

    assert aware.expires_at is not None and naive.expires_at is not None
    assert abs(aware.expires_at - moment) < timedelta(microseconds=2)
    assert aware.expires_at == naive.expires_at


async def test_an_imported_key_may_be_imported_again_by_many_at_once(store: KeyStore) -> None:
    rows = await asyncio.gather(*(store.import_key("my own token", "admin", "ADMIN_KEY") for _ in range(5)))

    assert len({row.id for row in rows}) == 1 and len(await store.list()) == 1
    assert rows[0].is_valid(time.time())


async def test_another_token_in_the_same_setting_replaces_the_one_before(store: KeyStore) -> None:
    await store.import_key("first", "admin", "ADMIN_KEY")
    await store.import_key("application's", "application", "BOOTSTRAP_KEY")
    await store.import_key("second", "admin", "ADMIN_KEY")
    after_change = [row.is_valid(time.time()) for row in await store.list()]
    await store.import_key("first", "admin", "ADMIN_KEY")
    after_return = [row.is_valid(time.time()) for row in await store.list()]

    assert (after_change, after_return) == ([False, True, True], [True, True, False])


async def test_an_imported_key_that_was_revoked_by_hand_stays_revoked(store: KeyStore) -> None:
    row = await store.import_key("token", "admin", "ADMIN_KEY")
    await store.revoke(row.id)

    again = await store.import_key("token", "admin", "ADMIN_KEY")

    assert again.id == row.id and not again.is_valid(time.time())


async def test_importing_an_issued_key_leaves_it_as_it_is(store: KeyStore) -> None:
    row, token = await store.issue("ADMIN_KEY", role="admin")

    await store.import_key(token, "admin", "ADMIN_KEY")
    await store.import_key("another", "admin", "ADMIN_KEY")

    assert await store.get(row.id) == row


async def test_one_token_cannot_stand_for_two_roles(store: KeyStore) -> None:
    await store.import_key("token", "admin", "ADMIN_KEY")

    with pytest.raises(ValueError, match="role admin"):
        await store.import_key("token", "application", "BOOTSTRAP_KEY")
    assert await store.count("application") == 0


async def test_a_keyring_over_a_real_store_opens_to_valid_keys_only(store: KeyStore) -> None:
    keyring = Keyring(store)
    row, token = await store.issue("shop", policy="best")
    _, expired = await store.issue("old", expires_at=datetime(2020, 1, 1, tzinfo=UTC))

    assert await keyring.authenticate(token) == Caller(row.id, "application", "best", None)
    assert await keyring.authenticate(expired) is None
    assert await keyring.authenticate("fp-'; DROP TABLE api_key; --") is None
    await store.revoke(row.id)
    keyring.take_up([Change(Scope.KEY, row.id)])
    assert await keyring.authenticate(token) is None


async def test_without_a_database_a_keyring_says_that_it_cannot_know() -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")

    with pytest.raises(KeyStoreUnavailable):
        await Keyring(KeyStore(engine)).authenticate("anything")
    await engine.dispose()
