"""The Anthropic provider: its own dialect passes byte for byte, chat is translated, failures are mapped."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import (
    GatewayError,
    InvalidRequest,
    RefusedUpstream,
    UnsupportedCapability,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamUnavailable,
)
from gateway.providers.anthropic import AnthropicProvider
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.messages_request import MessagesDialect
from gateway.wire.reply import Reply
from policies.catalogue import Endpoint, ModelCard
from tests.fakes import FakeHttp

HELLO = [{"role": "user", "content": "hi"}]
BODY = b'{"model":"auto", "max_tokens": 50,"messages":[ {"role":"user","content":"hi"} ],"odd":{"n":1.50},"stream":%b}'
EVENTS = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"id": "msg_1", "model": "w", "content": [], '
    b'"usage": {"input_tokens": 3, "output_tokens": 1}}}\n\nevent: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"say \\"error\\" and message_stop"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":9}}\n\nevent: message_stop\ndata: {"type": "message_stop"}\n\n'
)
WHOLE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"w", "content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":1}}'
)


def native(stream: bool, body: bytes = BODY) -> ChatRequest:
    return MessagesDialect().parse(body % (b"true" if stream else b"false") if b"%b" in body else body)


def chat(**fields: Any) -> ChatRequest:
    return parse_chat(json.dumps({"model": "m", "messages": HELLO} | fields).encode())


async def opened(http: FakeHttp, request: ChatRequest, **card: Any) -> Reply:
    provider = AnthropicProvider(http, 10_000)
    row = Endpoint(id="e", model="m", provider="anthropic", base_url="http://127.0.0.1:9/v1", wire_model="w")
    return await provider.open(
        request, Target(row, ModelCard(id="m", context_tokens=9, **card), provider, row.base_url, "sk-secret")
    )


async def sent(request: ChatRequest, **card: Any) -> Any:
    http = FakeHttp(WHOLE, "application/json")
    await opened(http, request, **card)
    return json.loads(http.sent[0][2])


async def test_a_request_of_this_dialect_is_sent_as_it_came_but_for_the_model() -> None:
    http = FakeHttp(WHOLE, "application/json")

    reply = await opened(http, native(stream=False))

    url, headers, body = http.sent[0]
    assert url == "http://127.0.0.1:9/v1/messages"
    assert body == (
        b'{"model":"w","max_tokens":50,"messages":[ {"role":"user","content":"hi"} ],"odd":{"n":1.50},"stream":false}'
    )
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-secret", "2023-06-01")
    assert "Authorization" not in headers
    assert [frame async for frame in reply.frames] == [WHOLE]
    assert (reply.dialect, reply.stream) == ("messages", False)


@pytest.mark.parametrize("cut", [1, 7, 100_000])
async def test_a_stream_of_this_dialect_passes_byte_for_byte(cut: int) -> None:
    reply = await opened(FakeHttp(EVENTS, "text/event-stream", cut=cut), native(stream=True))

    assert b"".join([frame async for frame in reply.frames]) == EVENTS
    assert reply.dialect == "messages"


async def test_a_budget_lowers_the_bound_and_thinking_with_it() -> None:
    thinking = {"type": "enabled", "budget_tokens": 8000}
    body = json.dumps({"model": "m", "max_tokens": 9000, "messages": HELLO, "thinking": thinking}).encode()

    loose = await sent(replace(native(False, body), cap_tokens=9999))
    tight = await sent(replace(native(False, body), cap_tokens=2000))
    least = await sent(replace(native(False, body), cap_tokens=100))

    assert (loose["max_tokens"], loose["thinking"]) == (9000, thinking)
    assert (tight["max_tokens"], tight["thinking"]) == (2000, {"type": "enabled", "budget_tokens": 1999})
    assert (least["max_tokens"], least["thinking"]) == (100, {"type": "disabled"})


async def test_thoughts_of_other_models_are_not_sent_since_nobody_signed_them() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "a", "signature": ""},
        {"type": "thinking", "thinking": "", "signature": "s"},
    ]
    turn = {"role": "assistant", "content": [*thoughts, {"type": "text", "text": "x"}]}
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [*HELLO, turn, *HELLO]}).encode()

    assert (await sent(native(False, body)))["messages"][1]["content"] == turn["content"][1:]


async def test_only_known_betas_are_passed_on() -> None:
    request = native(stream=False)
    assert request.original is not None
    asked = (("anthropic-beta", "interleaved-thinking-2025-05-14, files-api-2025-04-14,x"),)
    http = FakeHttp(WHOLE, "application/json")

    await opened(http, replace(request, original=replace(request.original, headers=asked)))

    assert http.sent[0][1]["anthropic-beta"] == "interleaved-thinking-2025-05-14"


async def test_a_chat_is_asked_and_answered_in_anthropics_words() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": "there"},
    ]
    http = FakeHttp(WHOLE, "application/json")

    reply = await opened(http, chat(messages=messages, stop="END", temperature=0.5, reasoning_effort="high", n=1))

    assert json.loads(http.sent[0][2]) == {
        "model": "w",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]}],
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "output_config": {"effort": "high"},
    }
    whole = json.loads(await anext(aiter(reply.frames)))
    assert reply.dialect == "chat"
    assert whole["choices"][0]["message"]["content"] == "hi"
    assert whole["usage"]["total_tokens"] == 4


async def test_the_bound_of_the_card_is_the_default() -> None:
    assert (await sent(chat(), max_output_tokens=77))["max_tokens"] == 77
    assert (await sent(chat(max_tokens=5), max_output_tokens=77))["max_tokens"] == 5


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 1.5}, "temperature"),
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"1": 2}}, "logit_bias"),
    ({"seed": 7}, "seed"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"vendor_field": 1}, "vendor_field"),
    ({"messages": [{"role": "user", "name": "ada", "content": "x"}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    ({"messages": [*HELLO, {"role": "assistant", "audio": {"id": "a"}}]}, "messages[1].audio"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED)
async def test_what_anthropic_has_no_word_for_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    http = FakeHttp(WHOLE, "application/json")

    with pytest.raises(UnsupportedCapability) as caught:
        await opened(http, chat(**fields))

    assert caught.value.param == named
    assert http.sent == []


async def test_arguments_that_are_no_object_are_the_requests_fault() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[1]"}}

    with pytest.raises(InvalidRequest) as caught:
        await sent(chat(messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]))

    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


async def test_ids_of_other_vendors_are_put_into_letters_that_anthropic_takes() -> None:
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": ""}}
    result = {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"}

    asked = await sent(chat(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}, result]))

    assert asked["messages"][1]["content"][0] == {"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {}}
    assert asked["messages"][2]["content"][0]["tool_use_id"] == "functions_f_0"


async def test_what_only_another_dialect_can_say_is_refused() -> None:
    with pytest.raises(UnsupportedCapability, match="needs an endpoint"):
        await sent(replace(chat(), native_only="This needs an endpoint of its own."))


@pytest.mark.parametrize(
    ("kind", "mapped"),
    [
        ("overloaded_error", UpstreamUnavailable),
        ("rate_limit_error", UpstreamLimited),
        ("authentication_error", UpstreamAuth),
        ("api_error", UpstreamError),
        ("new_error", UpstreamError),
    ],
)
@pytest.mark.parametrize("asked", [native(stream=True), chat(stream=True)])
async def test_an_error_event_is_raised_as_what_it_means(
    asked: ChatRequest, kind: str, mapped: type[GatewayError]
) -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"%b","message":"no sk-secret"}}\n\n' % kind.encode()
    reply = await opened(FakeHttp(EVENTS[:200].rpartition(b"\n\n")[0] + b"\n\n" + error, "text/event-stream"), asked)

    with pytest.raises(mapped) as caught:
        assert [frame async for frame in reply.frames] != []

    assert type(caught.value) is mapped
    assert "sk-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "mapped"),
    [(400, RefusedUpstream), (401, UpstreamAuth), (529, UpstreamUnavailable), (500, UpstreamError)],
)
async def test_refusals_are_mapped_and_keep_anthropics_reason(status: int, mapped: type[GatewayError]) -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long"}}'

    with pytest.raises(mapped) as caught:
        await opened(FakeHttp(body, "application/json", status=status), native(stream=False))

    assert status != 400 or caught.value.detail()["message"] == "prompt is too long"


async def test_half_an_event_at_the_end_is_a_broken_stream() -> None:
    reply = await opened(FakeHttp(EVENTS[:-10], "text/event-stream"), native(stream=True))

    with pytest.raises(UpstreamBroken):
        assert [frame async for frame in reply.frames] != []


@pytest.mark.parametrize("request_", [native(stream=False), chat()])
async def test_tokens_are_counted_by_the_upstream(request_: ChatRequest) -> None:
    http = FakeHttp(b'{"input_tokens":12}', "application/json")
    provider = AnthropicProvider(http, 10_000)
    row = Endpoint(id="e", model="m", provider="anthropic", base_url="http://127.0.0.1:9/v1/", wire_model="w")

    tokens = await provider.count_tokens(
        request_, Target(row, ModelCard(id="m", context_tokens=9), provider, row.base_url)
    )

    url, _, body = http.sent[0]
    assert (tokens, url) == (12, "http://127.0.0.1:9/v1/messages/count_tokens")
    assert "max_tokens" not in json.loads(body)
