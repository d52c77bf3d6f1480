"""The proxy line against a real upstream that behaves: what goes up, what comes back, what is logged."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from benchmarks.gateway.upstream_bodies import completion
from tests.integration.conftest import CHUNKS
from tests.serving import APPLICATION_KEY, Served

HELLO = [{"role": "user", "content": "hello there"}]


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "instant", "messages": HELLO} | fields)


def row(gateway: Served, request_id: str) -> dict[str, Any]:
    """The ledger's row, once the writer has flushed it."""
    for _ in range(100):
        reply = httpx.get(f"{gateway.url}/admin/requests/{request_id}", headers=gateway.admin_headers)
        if reply.status_code == 200:
            found: dict[str, Any] = reply.json()
            return found
        time.sleep(0.05)
    raise AssertionError(f"{request_id} never reached the ledger")


def test_a_whole_answer_comes_back_as_the_upstream_sent_it(client: httpx.Client) -> None:
    reply = ask(client)

    sent = json.loads(completion())
    got = reply.json()
    cost = got["usage"].pop("cost")
    assert got == sent
    assert cost == pytest.approx((sent["usage"]["prompt_tokens"] + 2 * sent["usage"]["completion_tokens"]) / 1e6)
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["x-fingerpost-model"] == "instant"
    assert reply.headers["x-fingerpost-endpoint"] == "instant-1"
    assert reply.headers["x-fingerpost-policy"] == "default"
    assert float(reply.headers["x-fingerpost-cost"]) == pytest.approx(cost)


def test_every_field_reaches_the_upstream_and_the_callers_secrets_do_not(
    client: httpx.Client, upstream: UpstreamServer
) -> None:
    fields: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logprobs": True,
        "n": 2,
        "seed": 0,
        "stop": None,
        "user": "u",
        "vendor_extension": {"deep": [None, False, 0, ""]},
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        ],
    }

    assert ask(client, **fields).status_code == 200

    received = upstream.received[-1]
    assert json.loads(received.body) == {"model": "wire-instant"} | fields
    assert received.headers["authorization"] == "Bearer sk-upstream-secret"
    assert APPLICATION_KEY not in str(received.headers)
    assert "cookie" not in received.headers


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_is_relayed_event_by_event_with_one_end_mark(client: httpx.Client, include_usage: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}
    with client.stream(
        "POST", "/v1/chat/completions", json={"model": "instant", "messages": HELLO, "stream": True, **options}
    ) as reply:
        text = reply.read().decode()

    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert events.count("[DONE]") == 1
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len(chunks) == CHUNKS + include_usage
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert [usage["cost"] > 0 for usage in usages] == [True] * include_usage


@pytest.mark.parametrize("stream", [False, True])
def test_the_ledger_knows_decision_usage_cost_and_times(client: httpx.Client, gateway: Served, stream: bool) -> None:
    reply = ask(client, stream=stream)

    logged = row(gateway, reply.headers["x-request-id"])

    assert logged["status"] == 200
    assert logged["model"] == "instant"
    assert logged["model_requested"] == "instant"
    assert logged["router_kind"] == "pinned"
    assert logged["stream"] is stream
    assert logged["finish_reason"] == "stop"
    assert logged["input_tokens"] > 0
    assert logged["cost_nanousd"] == 1000 * logged["input_tokens"] + 2000 * logged["output_tokens"]
    assert 0 < logged["first_byte_ms"] <= logged["total_ms"]
    assert logged["decision"][0]["endpoint"] == "instant-1"
    assert logged["prompt"] is None
    assert logged["answer"] is None


def test_prompts_are_kept_only_where_the_policy_says_so(client: httpx.Client, gateway: Served) -> None:
    reply = ask(client, model="auto:kept")

    logged = row(gateway, reply.headers["x-request-id"])

    assert "hello there" in logged["prompt"]
    assert "choices" in logged["answer"]


def test_explaining_calls_nobody(client: httpx.Client, upstream: UpstreamServer) -> None:
    before = upstream.stats.requests

    found = client.post("/v1/route", json={"model": "auto:kept", "messages": HELLO}).json()

    assert upstream.stats.requests == before
    assert found["chosen"] == {"model": "instant", "endpoint": "instant-1"}
    assert found["policy"] == "kept"
    assert found["candidates"][0]["propensity"] == 1.0
    assert found["candidates"][0]["cost_usd"] > 0
    assert found["reason"]


def test_models_are_listed_with_policies_and_found_by_name(client: httpx.Client) -> None:
    listed = {model["id"] for model in client.get("/v1/models").json()["data"]}

    assert {"auto", "auto:default", "auto:kept", "instant"} <= listed
    assert client.get("/v1/models/instant").json()["fingerpost"]["endpoints"] == ["instant-1"]
    missing = client.get("/v1/models/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_health_and_metrics_need_no_key_and_count_requests(client: httpx.Client, gateway: Served) -> None:
    ask(client)

    assert httpx.get(f"{gateway.url}/health/live").status_code == 200
    assert httpx.get(f"{gateway.url}/health/ready").json()["database"] == "up"
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'fingerpost_requests_total{endpoint="instant-1",model="instant",policy="default",route="chat"' in metrics
    assert 'fingerpost_ledger{name="database_up"} 1.0' in metrics
