"""Answers in a real Redis that nobody can read there, over HTTP: shared, rotated, and not taken from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from gateway.admission.ciphers import new_key
from tests.eventually import comes_true
from tests.integration.cache.conftest import Line, catalogue, policies
from tests.integration.redis_server import RedisServer, redis_of_its_own
from tests.integration.strategies.choir import Choir
from tests.serving import serving

QUESTION = "Which colour has the boat house of Vinterviken?"
ANSWER = "The boat house is painted green."


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_of_its_own({}) as server:
        yield server


@contextmanager
def gateway(choir: Choir, redis: RedisServer, folder: Path, keys: str) -> Iterator[Line]:
    """A gateway with these keys; all of them use one folder, so the same database."""
    env = {
        "CHOIR_SECRET": "sk",
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_REDIS_URL": redis.url,
        "FINGERPOST_CACHE_KEYS": keys,
    }
    models, files = catalogue(choir.url), policies("default", "alike")
    with (
        serving(folder, catalogue=models, policies=files, env=env) as served,
        httpx.Client(base_url=served.url, headers=served.headers, timeout=60) as client,
    ):
        yield Line(served, client, choir)


def all_of(url: str) -> bytes:
    """All that Redis would hand out to whoever asks."""
    with Redis.from_url(url) as client:
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": client.hgetall,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"stream": client.xrange,
            b"string": client.get,
        }
        return b"\n".join(repr(read[client.type(key)](key)).encode() for key in client.scan_iter())


@pytest.mark.parametrize("encrypted", [True, False])
def test_nothing_can_be_read_in_redis(choir: Choir, redis: RedisServer, tmp_path: Path, encrypted: bool) -> None:
    with gateway(choir, redis, tmp_path, new_key() if encrypted else "") as line:
        line.sings(ANSWER)
        assert line.again(QUESTION, "alike").json()["choices"][0]["message"]["content"] == ANSWER

    found = all_of(redis.url)

    assert len(found) > 1_000 and ANSWER.encode() not in found
    assert (QUESTION.encode() in found) is not encrypted


def test_keys_are_rotated_and_what_nobody_here_can_open_is_asked_anew(
    choir: Choir, redis: RedisServer, tmp_path: Path
) -> None:
    old, new = new_key(), new_key()
    with gateway(choir, redis, tmp_path, old) as line:
        line.sings(ANSWER)
        line.again(QUESTION)
    line.sings("It is red now.")
    with gateway(choir, redis, tmp_path, f"{new},{old}") as line:
        rotated = line.ask(QUESTION)
    with gateway(choir, redis, tmp_path, new) as line:
        stranger = line.ask(QUESTION)
        gauges = httpx.get(f"{line.served.url}/metrics").text
        assert comes_true(lambda: line.ask(QUESTION).headers["x-fingerpost-cache"] == "hit-exact")

    assert (rotated.headers["x-fingerpost-cache"], stranger.headers["x-fingerpost-cache"]) == ("hit-exact", "miss")
    assert stranger.json()["choices"][0]["message"]["content"] == "It is red now."
    assert 'fingerpost_cached{name="sealed_otherwise"} 0.0' not in gauges and "sealed_otherwise" in gauges
