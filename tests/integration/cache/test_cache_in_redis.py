"""Answers that several workers share in a real Redis, and requests that go on without it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.eventually import comes_true
from tests.integration.cache.conftest import Line, catalogue, policies
from tests.integration.redis_server import RedisServer, redis_of_its_own
from tests.integration.strategies.choir import Choir
from tests.serving import serving


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """Where both workers keep answers."""
    with redis_of_its_own({}) as server:
        yield server


@pytest.fixture(scope="module")
def shared(choir: Choir, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Two workers behind one port."""
    folder: Path = tmp_path_factory.mktemp("shared")
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_REDIS_URL": redis.url}
    models, files = catalogue(choir.url), policies("default", "alike")
    with (
        serving(folder, catalogue=models, policies=files, env=env, arguments=("--workers", "2")) as served,
        httpx.Client(base_url=served.url, headers={**served.headers, "connection": "close"}, timeout=60) as client,
    ):
        yield Line(served, client, choir)


def test_what_one_worker_keeps_all_give_out(shared: Line, question: str) -> None:
    shared.sings("once", "twice", "thrice")
    shared.ask(question)
    assert comes_true(lambda: shared.ask(question).headers["x-fingerpost-cache"] == "hit-exact")
    asked = len(shared.choir.asked)

    answers = [shared.ask(question) for _ in range(20)]

    assert {one.headers["x-fingerpost-cache"] for one in answers} == {"hit-exact"}
    assert len(shared.choir.asked) == asked <= 2


def test_what_is_called_wrong_is_forgotten_by_all(shared: Line, question: str) -> None:
    shared.sings("wrong")
    wrong = shared.again(question).headers["x-fingerpost-cache-id"]
    shared.sings("right")

    told = shared.client.post("/v1/cache/feedback", json={"id": wrong})

    answers = [shared.ask(question).json()["choices"][0]["message"]["content"] for _ in range(10)]
    assert told.status_code == 200 and set(answers) == {"right"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_no_request_fails_without_redis_and_it_is_used_again_when_it_is_back(
    shared: Line, redis: RedisServer, question: str, how: signal.Signals
) -> None:
    shared.sings("fresh")
    redis.freeze() if how is signal.SIGSTOP else redis.stop()
    try:
        answers = [shared.ask(question) for _ in range(10)]
    finally:
        redis.thaw() if how is signal.SIGSTOP else redis.start()

    assert {(one.status_code, one.headers["x-fingerpost-cache"]) for one in answers} == {(200, "miss")}
    assert comes_true(lambda: shared.ask(question).headers["x-fingerpost-cache"] == "hit-exact")
