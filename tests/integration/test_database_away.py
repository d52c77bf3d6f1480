"""The gateway on PostgreSQL while that is killed and comes back: requests go on, and every row arrives once."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from benchmarks.gateway.upstream import UpstreamServer
from tests.integration.conftest import POLICY, catalogue
from tests.integration.postgres import PostgresServer, postgres_server, postgres_url
from tests.integration.test_proxy_line import HELLO
from tests.serving import Served, serving

__all__ = ["postgres_server", "postgres_url"]
BEFORE, DURING = 20, 60


def ask(client: httpx.Client) -> str:
    reply = client.post("/v1/chat/completions", json={"model": "instant", "messages": HELLO})
    assert reply.status_code == 200, reply.text
    return reply.headers["x-request-id"]


def health(served: Served) -> str:
    body: dict[str, str] = httpx.get(f"{served.url}/health/ready").json()
    return body["database"]


def wait_until(served: Served, state: str) -> None:
    for _ in range(300):
        if health(served).startswith(state):
            return
        time.sleep(0.1)
    raise AssertionError(f"the database never became '{state}': {health(served)}")


def test_requests_go_on_while_postgresql_is_away_and_nothing_is_lost(
    upstream: UpstreamServer, postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    env = {
        "UPSTREAM_SECRET": "sk",
        "FINGERPOST_PRELOAD": "false",
        "FINGERPOST_DATABASE_URL": postgres_url,
        "FINGERPOST_LOG_LEVEL": "error",
    }
    with (
        serving(tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=env) as served,
        httpx.Client(base_url=served.url, headers=served.headers, timeout=20) as client,
    ):
        sent = [ask(client) for _ in range(BEFORE)]
        postgres_server.stop()
        sent += [ask(client) for _ in range(DURING)]
        wait_until(served, "away")
        metrics = httpx.get(f"{served.url}/metrics").text
        postgres_server.start()
        wait_until(served, "up")
        sent.append(ask(client))
        assert served.stop() == 0

    found = postgres_server.sql("select count(*), count(distinct id) from request_log", postgres_url.rsplit("/", 1)[1])
    assert 'fingerpost_ledger{name="database_up"} 0.0' in metrics
    assert found.strip().replace(" ", "") == f"{len(sent)}|{len(sent)}"
