"""What a hard budget's holder and a key's reader see over HTTP, where nothing of it was to be paid."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.tenants import Tenant, tenant
from tests.serving import Served

HELLO = [{"role": "user", "content": "hello"}]


async def test_a_request_that_is_refused_for_its_time_out_sets_nothing_aside(gateway: Served) -> None:
    made = tenant(gateway, name="hurried", limit_usd=5.0)
    headers = {"Authorization": f"Bearer {made.key}", "x-fingerpost-timeout": "soon"}

    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=20) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "instant", "messages": HELLO})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-fingerpost-timeout")
    level = await made.level()
    assert (level["reserved_nanousd"], level["spent_nanousd"]) == (0, 0)


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/messages"])
async def test_a_whole_answer_that_nobody_waits_for_is_charged_as_an_estimate(gateway: Served, route: str) -> None:
    made = tenant(gateway, name=f"impatient{len(route)}", limit_usd=5.0)
    body = {"model": "hang", "messages": HELLO, "max_tokens": 50}

    async with httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": f"Bearer {made.key}"}) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(route, json=body, timeout=0.7)

    level = await settled(made)
    assert level["spent_nanousd"] > 0


async def test_an_endpoint_that_refuses_to_work_costs_nothing(gateway: Served) -> None:
    made = tenant(gateway, name="unreached", limit_usd=5.0)

    async with httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": f"Bearer {made.key}"}) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "error500", "messages": HELLO}, timeout=20)

    assert answer.status_code >= 500
    assert (await settled(made))["spent_nanousd"] == 0


async def settled(made: Tenant) -> dict[str, Any]:
    """The budget once nothing is reserved any more."""
    for turn in range(100):
        level = await made.level()
        if level["reserved_nanousd"] == 0 and (level["spent_nanousd"] or turn > 10):
            return level
        await asyncio.sleep(0.05)
    raise AssertionError(f"still reserved: {level}")
