"""Workers without Redis: together they give out a rate limit once, not once each."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from benchmarks.gateway.upstream import UpstreamServer
from tests.integration.conftest import POLICY, catalogue
from tests.integration.tenants import tenant
from tests.integration.test_proxy_line import HELLO
from tests.serving import serving

ENV = {"UPSTREAM_SECRET": "sk", "FINGERPOST_PRELOAD": "false", "FINGERPOST_REDIS_URL": ""}
BODY = {"model": "instant", "messages": HELLO}
RPM = 20


def test_two_workers_give_out_a_rate_limit_once(upstream: UpstreamServer, tmp_path: Path) -> None:
    arguments = ("--workers", "2")
    with serving(
        tmp_path, catalogue=catalogue(upstream), policies={"default": POLICY}, env=ENV, arguments=arguments
    ) as served:
        headers, url = key_of(tenant(served, rpm=RPM).key), f"{served.url}/v1/chat/completions"
        began = time.monotonic()
        # Each on a connection of its own, so that both workers get some.
        answers = [httpx.post(url, json=BODY, headers=headers) for _ in range(4 * RPM)]
        came_back = RPM / 60 * (time.monotonic() - began)

    passed = sum(answer.status_code == 200 for answer in answers)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert RPM / 2 <= passed <= RPM + came_back + 2


def key_of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
