"""Pushed policies on both databases."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.policy_versions import PolicyVersions


async def test_the_latest_push_of_each_name_is_the_latest(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    await versions.push("default", "one", author="ann", note="")
    second = await versions.push("default", "zwei ü", author="bob", note="dearer models")
    thrifty = await versions.push("thrifty", "one", author="ann", note="")

    assert await versions.latest() == {"default": second, "thrifty": thrifty}
    assert (second.body, second.author, second.note) == ("zwei ü", "bob", "dearer models")
    assert second.sha256 == hashlib.sha256("zwei ü".encode()).hexdigest()


async def test_a_push_of_another_process_is_seen(engine: AsyncEngine) -> None:
    mine, theirs = PolicyVersions(engine), PolicyVersions(engine)
    await theirs.push("default", "one", author="ann", note="")
    before = (await mine.latest())["default"].body

    await theirs.push("default", "two", author="ann", note="")

    assert (before, (await mine.latest())["default"].body) == ("one", "two")


async def test_the_history_keeps_every_version_newest_first(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)
    for body in ("one", "two", "one"):
        await versions.push("default", body, author="ann", note="")
    await versions.push("other", "three", author="ann", note="")

    assert [row.body for row in await versions.history("default")] == ["one", "two", "one"]
    assert await versions.history("unknown") == []


async def test_pushes_at_the_same_time_all_arrive(engine: AsyncEngine) -> None:
    versions = PolicyVersions(engine)

    pushed = await asyncio.gather(*(versions.push("default", str(n), author="ann", note="") for n in range(8)))

    assert {row.id for row in await versions.history("default")} == {row.id for row in pushed}


async def test_without_a_database_the_policies_are_unavailable() -> None:
    engine = open_engine("postgresql://nobody@127.0.0.1:9/nothing")

    with pytest.raises(DatabaseUnavailable):
        await PolicyVersions(engine).latest()
    await engine.dispose()
