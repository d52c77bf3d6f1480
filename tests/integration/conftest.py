"""One misbehaving upstream and one gateway process in front of it, for all tests of the proxy line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway.upstream import MODES, UpstreamServer, start
from tests.serving import Served, serving

CHUNKS = 20
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test here that fails runs once more: it depends on real clocks and on what else the machine does.

    The summary lists it as rerun, so that one that often needs it is seen and mended.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamServer]:
    """A real HTTP server in a thread; its modes answer well, slowly, wrongly or not at all."""
    loop = asyncio.new_event_loop()
    started: list[UpstreamServer] = []
    ready = threading.Event()

    async def run() -> None:
        started.append(await start(0, chunks=CHUNKS))
        ready.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(run()), loop.run_forever()), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield started[0]
    asyncio.run_coroutine_threadsafe(started[0].close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def catalogue(upstream: UpstreamServer) -> str:
    """A model per mode of the upstream, and models whose first endpoint misbehaves and whose second is well."""
    rows = []
    for mode in MODES:
        rows.append(_model(mode) + _endpoint(f"{mode}-1", mode, upstream.base_url(mode)))
        if mode not in ("instant", "paced", "realistic"):
            name = f"{mode}-or-instant"
            rows.append(_model(name) + _endpoint(f"{name}-1", name, upstream.base_url(mode), weight=1000))
            rows.append(_endpoint(f"{name}-2", name, upstream.base_url("instant"), weight=0.001))
    dead = _endpoint("dead-1", "dead", "http://127.0.0.1:9/v1")
    vectors = '[[model]]\nid = "vectors"\ntask = "embedding"\ncontext_tokens = 512\n'
    return "\n".join([*rows, _model("dead") + dead, vectors])


def _model(name: str) -> str:
    return (
        f'[[model]]\nid = "{name}"\ncontext_tokens = 100000\nprior_quality = 0.5\ntools = true\njson_schema = true\n'
        'logprobs = true\nmodalities = ["text", "image"]\nprice_in_usd_per_mtok = 1.0\nprice_out_usd_per_mtok = 2.0\n'
    )


def _endpoint(name: str, model: str, base_url: str, weight: float = 1) -> str:
    return (
        f'[[endpoint]]\nid = "{name}"\nmodel = "{model}"\nprovider = "openai"\nbase_url = "{base_url}"\n'
        f'wire_model = "wire-{model}"\nkey_ref = "env:UPSTREAM_SECRET"\nweight = {weight}\nconnect_timeout_s = 1\n'
        "first_byte_timeout_s = 1.0\nidle_timeout_s = 0.5\n"
    )


POLICY = 'schema = 1\nname = "default"\nmodels = ["*"]\n[router]\nkind = "rules"\n'
KEPT = 'schema = 1\nname = "kept"\nmodels = ["instant"]\n[log]\nprompts = true\n'


@pytest.fixture(scope="session")
def gateway(upstream: UpstreamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway under test, with no local model loaded."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    env = {
        "UPSTREAM_SECRET": "sk-upstream-secret",
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_HEADER_TIMEOUT_S": "2",
        "FINGERPOST_BODY_TIMEOUT_S": "2",
    }
    policies = {"default": POLICY, "kept": KEPT}
    with serving(folder, catalogue=catalogue(upstream), policies=policies, env=env) as served:
        yield served


@pytest.fixture
def client(gateway: Served) -> Iterator[httpx.Client]:
    """An application's client."""
    with httpx.Client(base_url=gateway.url, headers=gateway.headers, timeout=20) as found:
        yield found
