"""Upstreams that hang, reset, lie or stop half-way: a mapped error, or another endpoint while nothing has left."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from benchmarks.gateway.upstream import UpstreamServer
from tests.eventually import comes_true
from tests.integration.test_proxy_line import HELLO, row
from tests.quickest import quickest, within
from tests.serving import Served

PROMPTLY_S = 0.2

BEFORE_THE_FIRST_BYTE = [
    ("hang", 504, "upstream_timeout"),
    ("reset", 503, "upstream_unavailable"),
    ("html", 502, "upstream_broken"),
    ("badjson", 502, "upstream_broken"),
    ("redirect", 502, "upstream_broken"),
    ("error500", 502, "upstream_error"),
    ("error401", 502, "upstream_auth"),
    ("error429", 429, "rate_limit_exceeded"),
    ("dead", 503, "upstream_unavailable"),
]


def ask(client: httpx.Client, model: str, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": model, "messages": HELLO} | fields)


@pytest.mark.parametrize(("mode", "status", "code"), BEFORE_THE_FIRST_BYTE)
def test_a_bad_upstream_becomes_an_error_in_openai_shape(
    client: httpx.Client, mode: str, status: int, code: str
) -> None:
    reply = ask(client, mode)

    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers["x-request-id"]
    assert reply.headers["x-should-retry"] == ("false" if mode == "error401" else "true")
    assert "sk-" not in reply.text
    assert "<html" not in reply.text


FALLBACK_MODES = [
    (mode, stream)
    for mode, *_ in BEFORE_THE_FIRST_BYTE
    for stream in (False, True)
    # "dead" has no second endpoint, and a stream is never one JSON body
    if mode != "dead" and (mode, stream) != ("badjson", True)
]


@pytest.mark.parametrize(("mode", "stream"), FALLBACK_MODES)
def test_another_endpoint_answers_while_no_byte_has_left(client: httpx.Client, mode: str, stream: bool) -> None:
    reply = ask(client, f"{mode}-or-instant", stream=stream)

    assert reply.status_code == 200
    assert reply.headers["x-fingerpost-endpoint"] == f"{mode}-or-instant-2"


def test_a_retry_after_is_passed_on(client: httpx.Client) -> None:
    assert ask(client, "error429").headers["retry-after"] == "7"


def test_the_upstreams_own_400_is_kept_and_never_tried_elsewhere(
    client: httpx.Client, upstream: UpstreamServer
) -> None:
    before = upstream.stats.requests

    reply = ask(client, "error400-or-instant")

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert upstream.stats.requests == before + 1


@pytest.mark.parametrize("mode", ["half", "stall"])
def test_a_stream_that_breaks_ends_with_one_error_event(client: httpx.Client, gateway: Served, mode: str) -> None:
    reply = ask(client, mode, stream=True)

    events = [event for event in reply.text.split("\n\n") if event]
    assert reply.status_code == 200
    assert '"error"' in events[-1]
    assert sum('"error"' in event for event in events) == 1
    assert "[DONE]" not in reply.text
    logged = row(gateway, reply.headers["x-request-id"])
    assert logged["status"] in (502, 503, 504)
    assert logged["usage_estimated"] is True
    assert logged["output_tokens"] > 0


def test_half_a_whole_answer_is_an_error_not_half_an_answer(client: httpx.Client) -> None:
    assert ask(client, "half").status_code in (502, 503)


@quickest
def test_the_upstream_is_cancelled_soon_after_the_client_leaves(
    client: httpx.Client, upstream: UpstreamServer, gateway: Served
) -> None:
    before = upstream.stats.cut
    with client.stream(
        "POST", "/v1/chat/completions", json={"model": "paced", "messages": HELLO, "stream": True}
    ) as reply:
        next(reply.iter_lines())
    left = time.monotonic()

    assert comes_true(lambda: upstream.stats.cut > before, every_s=0.005), "the upstream was never cancelled"
    within(PROMPTLY_S, time.monotonic() - left)

    logged = row(gateway, reply.headers["x-request-id"])
    assert (logged["status"], logged["error_code"]) == (499, "client_disconnected")


@quickest
def test_the_upstream_is_cancelled_before_its_first_byte_too(client: httpx.Client, upstream: UpstreamServer) -> None:
    before = upstream.stats.cut
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json={"model": "hang", "messages": HELLO}, timeout=0.3)
    left = time.monotonic()

    assert comes_true(lambda: upstream.stats.cut > before, every_s=0.005), "the upstream was never cancelled"
    within(PROMPTLY_S, time.monotonic() - left)


def test_attempts_are_in_the_ledger(client: httpx.Client, gateway: Served) -> None:
    reply = ask(client, "html-or-instant")

    attempts = row(gateway, reply.headers["x-request-id"])["attempts"]

    assert [attempt["outcome"] for attempt in attempts][-1] == "ok"
    assert attempts[-1]["endpoint"] == "html-or-instant-2"
