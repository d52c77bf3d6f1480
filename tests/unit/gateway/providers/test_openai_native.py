"""The OpenAI provider with endpoints that take more than chats: what is sent is what the client wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import UnsupportedCapability, UpstreamBroken, UpstreamError
from gateway.providers.base import Target
from gateway.providers.openai import OpenAIProvider
from gateway.wire.chat_request import ChatRequest
from gateway.wire.completions_request import CompletionsDialect
from gateway.wire.reply import Reply
from gateway.wire.responses_dialect import ResponsesDialect
from gateway.wire.sse import DONE
from policies.catalogue import Endpoint, ModelCard, WireDialect
from tests.fakes import WHOLE, FakeHttp

ENDED = b'event: response.completed\ndata: {"type":"response.completed","response":{"output":[]}}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"error"}\n\n'


def responses(**fields: Any) -> ChatRequest:
    return ResponsesDialect().parse(json.dumps({"model": "m", "input": "x", **fields}).encode())


def completions(**fields: Any) -> ChatRequest:
    return CompletionsDialect().parse(json.dumps({"model": "m", "prompt": "x", **fields}).encode())


async def sent(request: ChatRequest, http: FakeHttp, *dialects: WireDialect) -> Reply:
    provider = OpenAIProvider(http, 10_000)
    row = Endpoint(id="e", model="m", provider="openai", base_url="http://h/v1", wire_model="w", dialects=dialects)
    return await provider.open(request, Target(row, ModelCard(id="m", context_tokens=9), provider, row.base_url, "sk"))


async def test_a_response_goes_as_it_came_but_for_the_model_and_what_the_gateway_has_acted_on() -> None:
    http = FakeHttp(b'{"output":[]}', "application/json")
    request = responses(odd=[1.0, None], tools=[{"type": "web_search"}], previous_response_id="r", models=["m"])

    reply = await sent(request, http, "chat", "responses")

    url, _, body = http.sent[0]
    assert (url, reply.dialect, reply.stream) == ("http://h/v1/responses", "responses", False)
    assert json.loads(body) == {"model": "w", "input": "x", "odd": [1.0, None], "tools": [{"type": "web_search"}]}


@pytest.mark.parametrize(("given", "bound"), [({}, 5), ({"max_output_tokens": 3}, 3), ({"max_output_tokens": 9}, 5)])
async def test_a_hard_budget_bounds_it_in_its_own_words(given: dict[str, int], bound: int) -> None:
    http = FakeHttp(b'{"output":[]}', "application/json")

    await sent(replace(responses(**given), cap_tokens=5), http, "responses")

    assert json.loads(http.sent[0][2])["max_output_tokens"] == bound


async def test_a_completions_stream_is_asked_for_its_usage() -> None:
    http = FakeHttp(DONE, "text/event-stream")
    request = replace(completions(stream=True, prompt=[1, 2]), upstream_headers=(("traceparent", "t"),))

    reply = await sent(request, http, "completions")

    url, headers, body = http.sent[0]
    assert (url, reply.dialect, headers["traceparent"]) == ("http://h/v1/completions", "completions", "t")
    expected = {"stream": True, "prompt": [1, 2], "stream_options": {"include_usage": True}}
    assert json.loads(body) == {"model": "w", **expected}


async def test_elsewhere_the_chat_form_is_sent() -> None:
    http = FakeHttp(WHOLE, "application/json")

    reply = await sent(responses(), http, "chat", "completions")

    assert (http.sent[0][0], reply.dialect) == ("http://h/v1/chat/completions", "chat")


@pytest.mark.parametrize(
    ("request_", "dialects"),
    [(responses(truncation="auto"), ("chat",)), (completions(echo=True), ("chat",)), (responses(), ("completions",))],
)
async def test_what_an_endpoint_cant_be_told_is_refused_before_it_is_asked(
    request_: ChatRequest, dialects: tuple[WireDialect, ...]
) -> None:
    http = FakeHttp(WHOLE, "application/json")

    with pytest.raises(UnsupportedCapability):
        await sent(request_, http, *dialects)

    assert http.sent == []


@pytest.mark.parametrize("cut", [7, 1000])
async def test_a_streamed_response_ends_with_its_last_event(cut: int) -> None:
    http = FakeHttp(DELTA + ENDED + DONE, "text/event-stream", cut=cut)

    reply = await sent(responses(stream=True), http, "responses")

    assert b"".join([frame async for frame in reply.frames]) == DELTA + ENDED
    assert http.cancelled == 0


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b'event: error\ndata: {"type":"error","message":"boom sk","code":"x"}\n\n', UpstreamError),
        (b'data: {"error":{"message":"boom sk"}}\n\n', UpstreamError),
        (b"data: {", UpstreamBroken),
    ],
)
async def test_a_streamed_response_that_breaks_is_an_error_without_our_key(last: bytes, kind: type[Exception]) -> None:
    reply = await sent(responses(stream=True), FakeHttp(DELTA + last, "text/event-stream"), "responses")

    with pytest.raises(kind) as caught:
        _ = [frame async for frame in reply.frames]

    assert "sk" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "kept"),
    [
        ("https://api.example.com/v1", []),
        ("https://api.deepseek.com", ["reasoning_content"]),
        ("https://generativelanguage.googleapis.com/v1beta/openai", ["extra_content"]),
    ],
)
async def test_vendors_are_sent_back_only_what_is_theirs(base_url: str, kept: list[str]) -> None:
    http = FakeHttp(WHOLE, "application/json")
    provider = OpenAIProvider(http, 10_000)
    row = Endpoint(id="e", model="m", provider="openai", base_url=base_url)
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    said = {"role": "assistant", "content": "x", "extra_content": {"google": {"thought_signature": "s"}}}

    request = responses(input=[thought, said])
    await provider.open(request, Target(row, ModelCard(id="m", context_tokens=9), provider, base_url))

    (message,) = json.loads(http.sent[0][2])["messages"]
    assert [name for name in message if name not in ("role", "content")] == kept
