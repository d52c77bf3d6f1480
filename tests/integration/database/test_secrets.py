"""Providers' keys on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.ciphers import new_key
from gateway.admission.secrets import SecretStore
from gateway.admission.stores import open_stores
from gateway.admission.terms import RefusedField, SecretKeyError
from gateway.ledger.acts import EVERYTHING, Change

OLD, NEW = new_key(), new_key()


def store_of(engine: AsyncEngine, keys: str) -> SecretStore:
    """A gateway with these keys."""
    return open_stores(engine, keys).secrets


async def stored(engine: AsyncEngine) -> str:
    """All that lies in the table and in the audit log."""
    async with engine.connect() as connection:
        tables = ("provider_secret", "audit_log", "change")
        return str([(await connection.execute(text(f"SELECT * FROM {one}"))).all() for one in tables])


async def test_a_secret_is_set_loaded_replaced_and_removed(engine: AsyncEngine) -> None:
    admin, gateway = store_of(engine, NEW), store_of(engine, NEW)
    await admin.set("OPENAI", "sk-1")

    assert (await gateway.load(), gateway.value("OPENAI"), await gateway.load()) == (True, "sk-1", False)
    await admin.set("OPENAI", "sk-2")
    assert await gateway.take_up([Change("secret", "OPENAI")]) and gateway.value("OPENAI") == "sk-2"
    assert [await admin.remove("OPENAI") for _ in range(2)] == [True, False]
    assert not await gateway.take_up([Change("key", "OPENAI")])
    assert await gateway.take_up([Change(EVERYTHING)]) and gateway.value("OPENAI") is None


async def test_no_value_lies_anywhere_in_the_clear(engine: AsyncEngine) -> None:
    await store_of(engine, NEW).set("OPENAI", "sk-very-secret", actor="ann")

    found = await stored(engine)

    assert "very-secret" not in found and "secret.set" in found and "ann" in found


async def test_a_rotation_lets_the_old_key_go(engine: AsyncEngine) -> None:
    await store_of(engine, OLD).set("A", "sk-a")
    both = store_of(engine, f"{NEW},{OLD}")
    await both.set("B", "sk-b")

    assert [(row.name, row.readable) for row in await store_of(engine, NEW).list()] == [("A", False), ("B", True)]
    assert await both.rotate() == 2
    fresh = store_of(engine, NEW)
    await fresh.load()

    assert (fresh.value("A"), fresh.value("B")) == ("sk-a", "sk-b")
    assert [row.readable for row in await store_of(engine, OLD).list()] == [False, False]


async def test_a_rotation_without_the_old_key_changes_nothing_and_names_the_secret(engine: AsyncEngine) -> None:
    await store_of(engine, NEW).set("A", "sk-a")
    await store_of(engine, OLD).set("B", "sk-b")

    with pytest.raises(SecretKeyError, match="'B'"):
        await store_of(engine, NEW).rotate()

    assert [row.rotated_at for row in await store_of(engine, NEW).list()] == [None, None]


async def test_tokens_can_not_change_places(engine: AsyncEngine, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(engine, NEW)
    await store.set("A", "sk-a")
    await store.set("B", "sk-b")
    async with engine.begin() as connection:
        other = "SELECT token FROM provider_secret WHERE name = 'B'"
        await connection.execute(text(f"UPDATE provider_secret SET token = ({other}) WHERE name = 'A'"))

    await store.load()

    assert (store.value("A"), store.value("B")) == (None, "sk-b")
    assert "A" in caplog.text and "sk-" not in caplog.text


async def test_without_keys_nothing_is_read_or_written(engine: AsyncEngine) -> None:
    await store_of(engine, NEW).set("A", "sk-a")
    bare = store_of(engine, "")

    assert (await bare.load(), bare.value("A")) == (False, None)
    for attempt in (bare.set("B", "sk-b"), bare.rotate()):
        with pytest.raises(SecretKeyError, match="FINGERPOST_SECRET_KEYS"):
            await attempt


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [("a b", "x", "name"), ("1a", "x", "name"), ("A", "", "value"), ("A", "a b", "value"), ("A", "ü", "value")],
)
async def test_what_no_key_is_like_is_refused(engine: AsyncEngine, name: str, value: str, field: str) -> None:
    with pytest.raises(RefusedField) as refused:
        await store_of(engine, NEW).set(name, value)

    assert refused.value.field == field
