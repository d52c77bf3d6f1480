"""Two workers on one Redis are one cache also for requests that come at once, until one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.cache.conftest import catalogue, policies
from tests.integration.cache.prompter import Part, Prompter
from tests.integration.redis_server import RedisServer, redis_of_its_own
from tests.integration.test_rolling_restart import workers_of
from tests.serving import Served, serving

MANY = 100
_NUMBERS = count()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """Where both workers keep answers and leases."""
    with redis_of_its_own({}) as server:
        yield server


@pytest.fixture(scope="module")
def pair(prompter: Prompter, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers behind one port."""
    folder: Path = tmp_path_factory.mktemp("pair")
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_REDIS_URL": redis.url}
    texts = {name: text + "[fallback]\nretries = 0\nenabled = false\n" for name, text in policies("default").items()}
    models = catalogue(prompter.url)
    with serving(folder, catalogue=models, policies=texts, env=env, arguments=("--workers", "2")) as served:
        yield served


class Crowd:
    """Many clients, each with a connection of its own."""

    def __init__(self, served: Served, prompter: Prompter) -> None:
        self.served = served
        self.prompter = prompter
        self.begun = len(prompter.parts)
        limits = httpx.Limits(max_connections=2 * MANY)
        headers = {**served.headers, "connection": "close"}
        self.client = httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30, limits=limits)
        self.question = f"What is on leaf {next(_NUMBERS)}?"

    async def ask(self, stream: bool) -> httpx.Response | None:
        """One request; None where the gateway hangs up."""
        messages = [{"role": "user", "content": self.question}]
        body: dict[str, Any] = {"model": "auto:default", "messages": messages, "max_tokens": 50, "stream": stream}
        try:
            return await self.client.post("/v1/chat/completions", json=body)
        except httpx.TransportError:
            return None

    def asks(self, number: int, stream: bool) -> list[asyncio.Task[httpx.Response | None]]:
        """So many at once."""
        return [asyncio.create_task(self.ask(stream)) for _ in range(number)]

    async def asks_both(
        self, number: int, redis: RedisServer, stream: bool
    ) -> list[asyncio.Task[httpx.Response | None]]:
        """So many at once, and more until both workers have some: the kernel deals the connections out."""
        asking = self.asks(number, stream)

        def both_have_some() -> bool:
            found = is_awaited(redis)
            asking.extend([] if found else self.asks(1, stream))
            return found

        await self.asked()
        await eventually(both_have_some, every_s=0.05)
        return asking

    async def asked(self, number: int = 1) -> Part:
        """The upstream's request of this number."""
        await eventually(lambda: len(self.prompter.parts) >= self.begun + number)
        return self.prompter.parts[self.begun + number - 1]


@pytest.fixture
async def crowd(pair: Served, prompter: Prompter) -> AsyncIterator[Crowd]:
    found = Crowd(pair, prompter)
    async with found.client:
        yield found


def is_awaited(redis: RedisServer) -> bool:
    """Whether a worker waits for the other."""
    leases = [line for line in redis.ask("KEYS", "*:lease:*").split() if ":lease:" in line]
    return any(redis.ask("GET", lease).strip().endswith("+") for lease in leases)


def worker_at(served: Served, port: int) -> int:
    """The process id of the worker whose connection has this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[1].split(":")[1], 16) == port}
    for pid in workers_of(served):
        for name in Path(f"/proc/{pid}/fd").iterdir():
            if name.is_symlink() and str(name.readlink()) in sockets:
                return pid
    raise AssertionError(f"no worker has port {port}")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hundred_on_two_workers_are_one_call(crowd: Crowd, redis: RedisServer, stream: bool) -> None:
    asking = await crowd.asks_both(MANY, redis, stream)
    if stream:
        crowd.prompter.say("for all")
    crowd.prompter.finish()

    answers = [one for one in await asyncio.gather(*asking) if one is not None]

    assert Counter(one.headers["x-fingerpost-cache"] for one in answers) == {"miss": 1, "hit-exact": len(asking) - 1}
    assert all(("for all" if stream else "whole answer") in one.text for one in answers)
    assert len(crowd.prompter.parts) == crowd.begun + 1


async def test_where_the_worker_that_asks_dies_the_other_asks(crowd: Crowd, redis: RedisServer) -> None:
    asking = await crowd.asks_both(20, redis, stream=False)
    part = await crowd.asked()

    os.kill(worker_at(crowd.served, part.port), signal.SIGKILL)
    await crowd.asked(2)
    crowd.prompter.finish()

    answers = [one for one in await asyncio.gather(*asking) if one is not None]
    assert answers and all("whole answer" in one.text for one in answers)
    assert len(crowd.prompter.parts) == crowd.begun + 2
