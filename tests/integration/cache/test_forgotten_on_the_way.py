"""Answers that are still on their way while their like is forgotten: they reach their client, and nobody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

import httpx
import pytest

from tests.integration.cache.conftest import catalogue, policies
from tests.integration.cache.prompter import Prompter
from tests.integration.redis_server import redis_of_its_own
from tests.serving import Served, serving

_NUMBERS = count()
# More than the time in which workers hear of what others were told.
HEARD_S = 1.0


@pytest.fixture(scope="module", params=["memory", "redis"])
def pair(
    request: pytest.FixtureRequest, prompter: Prompter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Two workers, each with answers of its own or both with those in Redis."""
    env = {"CHOIR_SECRET": "sk", "FINGERPOST_PRELOAD": "false"}
    with ExitStack() as stack:
        if request.param == "redis":
            env["FINGERPOST_REDIS_URL"] = stack.enter_context(redis_of_its_own({})).url
        yield stack.enter_context(
            serving(
                tmp_path_factory.mktemp("forgotten"),
                catalogue=catalogue(prompter.url),
                policies=policies("default"),
                env=env,
                arguments=("--workers", "2"),
            )
        )


def ask(pair: Served, question: str) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": question}], "user": "ada"}
    return httpx.post(f"{pair.url}/v1/chat/completions", json=body, headers=pair.headers, timeout=30)


@pytest.mark.parametrize(("which", "is_kept"), [({"end_user": "ada"}, False), ({"end_user": "bob"}, True)])
def test_an_answer_on_its_way_is_not_kept_where_its_like_was_forgotten(
    pair: Served, prompter: Prompter, which: dict[str, str], is_kept: bool
) -> None:
    question, before = f"What is on sheet {next(_NUMBERS)}?", len(prompter.parts)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, pair, question)
        prompter.asked(before + 1)
        done = httpx.post(f"{pair.url}/admin/cache/invalidate", json=which, headers=pair.admin_headers)
        time.sleep(HEARD_S)
        prompter.finish()

        assert done.status_code == 200 and first.result().status_code == 200

    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(ask, pair, question) for _ in range(8)]
        while not all(one.done() for one in others):
            for part in range(before + 1, len(prompter.parts)):
                if not prompter.parts[part].over:
                    prompter.finish(part)
            time.sleep(0.01)
    kinds = {one.result().headers["x-fingerpost-cache"] for one in others}

    assert ("hit-exact" in kinds and len(prompter.parts) - before <= 2) if is_kept else len(prompter.parts) > before + 1
