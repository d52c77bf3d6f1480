"""Changes that admins make, heard in other processes, on both databases."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.changes import ChangeFeed
from gateway.admission.rules import Scope
from gateway.admission.stores import open_stores
from gateway.admission.terms import Terms
from gateway.ledger.acts import EVERYTHING, KEPT_CHANGES, Change, acting
from gateway.ledger.engine import open_engine
from gateway.ledger.schema import upgrade
from gateway.ledger.tables import change
from tests.eventually import eventually
from tests.integration.postgres import PostgresServer
from tests.quickest import TRIES, within

# A worker: takes tokens from its input, and answers as its keyring does.
WORKER = """
import asyncio, sys
from gateway.admission.changes import ChangeFeed
from gateway.admission.keys import Keyring
from gateway.admission.stores import open_stores
from gateway.ledger.engine import open_engine
async def main():
    engine = open_engine(sys.argv[1])
    keyring = Keyring(open_stores(engine).keys)
    async def on_change(changes):
        keyring.take_up(changes)
    listening = asyncio.create_task(ChangeFeed(engine, on_change).run())
    while line := await asyncio.to_thread(sys.stdin.readline):
        caller = await keyring.authenticate(line.strip())
        print("no" if caller is None else caller.policy, flush=True)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await engine.dispose()
asyncio.run(main())
"""


class Heard:
    """Remembers what a feed says, and may fail."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.fails = 0

    async def __call__(self, changes: Sequence[Change]) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("away")
        self.changes += changes

    def taken(self) -> list[Change]:
        """What was said since the last look."""
        taken, self.changes = self.changes, []
        return taken


@asynccontextmanager
async def worker(database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process on the same database."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, database_url, stdin=pipe, stdout=pipe)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            raise


async def ask(process: asyncio.subprocess.Process, token: str) -> str:
    """What the other process takes a token for."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(token.encode() + b"\n")
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


async def until(process: asyncio.subprocess.Process, token: str, answer: str) -> float:
    """Seconds until the other process answers so."""
    started = time.monotonic()
    while await ask(process, token) != answer:
        assert time.monotonic() - started < 10
        await asyncio.sleep(0.005)
    return time.monotonic() - started


async def tell(engine: AsyncEngine, *changes: Change) -> None:
    """An act with these changes."""
    async with acting(engine, "ann") as act:
        await act.done("test", "x", {}, *changes)


@pytest.fixture
async def heard(engine: AsyncEngine) -> AsyncIterator[tuple[Heard, ChangeFeed]]:
    """A feed that has begun, asked by hand."""
    heard = Heard()
    feed = ChangeFeed(engine, heard)
    assert await feed.poll()
    assert heard.taken() == [Change(EVERYTHING)]
    yield heard, feed
    running = asyncio.create_task(feed.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_revocation_here_shuts_the_key_out_there_within_half_a_second(
    engine: AsyncEngine, database_url: str
) -> None:
    keys = open_stores(engine).keys
    _, kept_token = await keys.issue("kept", policy="best")
    issued = [await keys.issue(f"k{number}", policy="best") for number in range(TRIES)]
    async with worker(database_url) as there:
        took_s = []
        for row, token in issued:
            assert (await ask(there, token), await ask(there, kept_token)) == ("best", "best")
            await keys.revoke(row.id)
            took_s.append(await until(there, token, "no"))
            assert await ask(there, kept_token) == "best"

    within(0.5, min(took_s))


async def test_a_change_of_a_team_here_counts_there_within_half_a_second(
    engine: AsyncEngine, database_url: str
) -> None:
    stores = open_stores(engine)
    acme = await stores.tenants.create_organisation(Terms(name="acme", policy="best"))
    web = await stores.tenants.create_team(acme.id, Terms(name="web"))
    _, token = await stores.keys.issue("k", team_id=web.id)
    async with worker(database_url) as there:
        assert await ask(there, token) == "best"
        took_s = []
        for policy in ["thrifty", "best"] * (TRIES // 2):
            edit = partial(replace, policy=policy)
            await stores.tenants.update(Scope.ORGANISATION, acme.id, edit)
            took_s.append(await until(there, token, policy))

    within(0.5, min(took_s))


async def test_changes_are_heard_once_and_in_their_order(engine: AsyncEngine, heard: tuple[Heard, ChangeFeed]) -> None:
    said, feed = heard
    await tell(engine, Change("key", "a"), Change("team", "b"))
    await tell(engine, Change("key", "c"))

    await asyncio.gather(feed.poll(), feed.poll())

    assert said.taken() == [Change("key", "a"), Change("team", "b"), Change("key", "c")]


async def test_what_could_not_be_taken_up_is_said_again(engine: AsyncEngine, heard: tuple[Heard, ChangeFeed]) -> None:
    said, feed = heard
    await tell(engine, Change("key", "a"))
    said.fails = 2

    assert [await feed.poll() for _ in range(3)] == [False, False, True]
    assert said.taken() == [Change(EVERYTHING)]


async def test_who_missed_rows_that_are_gone_hears_that_everything_changed(
    engine: AsyncEngine, heard: tuple[Heard, ChangeFeed]
) -> None:
    said, feed = heard
    for name in "abc":
        await tell(engine, Change("key", name))
    async with engine.begin() as connection:
        await connection.execute(change.delete().where(change.c.subject == "a"))

    await feed.poll()

    assert said.taken() == [Change(EVERYTHING), Change("key", "b"), Change("key", "c")]


async def test_rows_of_long_ago_are_pruned(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(change).values(id=-KEPT_CHANGES, at=0, what="key", subject="old"))

    await tell(engine, Change("key", "a"))

    async with engine.connect() as connection:
        assert (await connection.execute(select(change.c.subject))).scalars().all() == ["a"]


async def test_a_feed_outlives_an_outage_of_the_database(postgres_server: PostgresServer, postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    engine, said = open_engine(postgres_url), Heard()
    feed = ChangeFeed(engine, said, every_s=0.02)
    running = asyncio.create_task(feed.run())
    try:
        await _heard(said, Change(EVERYTHING))
        postgres_server.stop()
        assert not await feed.poll()
        postgres_server.start()
        await _heard(said, Change(EVERYTHING))
        await tell(engine, Change("key", "a"))
        await _heard(said, Change("key", "a"))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engine.dispose()


async def test_a_database_that_hangs_does_not_hang_the_feed_for_good(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    engine, said = open_engine(postgres_url), Heard()
    feed = ChangeFeed(engine, said, timeout_s=0.2)
    assert await feed.poll()
    postgres_server.freeze()
    try:
        assert not await asyncio.wait_for(feed.poll(), 5)
        assert not await asyncio.wait_for(feed.poll(), 5)
    finally:
        postgres_server.thaw()
    await eventually(feed.poll)

    assert said.taken() == [Change(EVERYTHING)] * 2
    await feed._hang_up()
    await engine.dispose()


async def _heard(said: Heard, wanted: Change) -> None:
    await eventually(lambda: wanted in said.taken())
