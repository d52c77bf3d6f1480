"""Anthropic's own SDK against a served gateway: before an upstream of its dialect, and before one of chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.integration.speaking_upstream import CALLS, COUNTED, SpeakingUpstream, message, message_events, speaking
from tests.serving import APPLICATION_KEY, Served, serving

HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
# 10 + 5 + 20 input tokens and 7 of output, at a dollar and two dollars a million.
COST = (35 * 1 + 7 * 2) / 1e6
BOTH = pytest.mark.parametrize("dialect", ["claude", "chat"])


def catalogue(url: str) -> str:
    rows = []
    for kind in ("plain", "tools", "breaks"):
        rows.append(_model(f"claude-{kind}") + _endpoint(f"claude-{kind}", "anthropic", url, kind))
        rows.append(_model(f"chat-{kind}") + _endpoint(f"chat-{kind}", "openai", url, kind))
    either = _model("either") + _endpoint("either", "openai", url, "plain", 1000, "either-chat")
    return "\n".join([*rows, either, _endpoint("either", "anthropic", url, "plain", 0.001, "either-claude")])


def _model(name: str) -> str:
    return (
        f'[[model]]\nid = "{name}"\ncontext_tokens = 100000\ntools = true\njson_schema = true\n'
        'modalities = ["text", "image", "file"]\nprice_in_usd_per_mtok = 1.0\nprice_out_usd_per_mtok = 2.0\n'
    )


def _endpoint(model: str, provider: str, url: str, wire: str, weight: float = 1, name: str = "") -> str:
    return (
        f'[[endpoint]]\nid = "{name or model}-1"\nmodel = "{model}"\nprovider = "{provider}"\nbase_url = "{url}"\n'
        f'wire_model = "{wire}"\nkey_ref = "env:UPSTREAM_SECRET"\nweight = {weight}\n'
    )


POLICY = 'schema = 1\nname = "default"\nmodels = ["*"]\n[router]\nkind = "rules"\n'


@pytest.fixture(scope="module")
def upstream() -> Iterator[SpeakingUpstream]:
    with speaking() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(upstream: SpeakingUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    env = {"UPSTREAM_SECRET": "sk-upstream-secret", "FINGERPOST_PRELOAD": "false"}
    folder = tmp_path_factory.mktemp("messages")
    with serving(folder, catalogue=catalogue(upstream.url), policies={"default": POLICY}, env=env) as served:
        yield served


@pytest.fixture
def sdk(gateway: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=APPLICATION_KEY, max_retries=0) as client:
        yield client


def post(gateway: Served, body: bytes, path: str = "/v1/messages", **headers: str) -> httpx.Response:
    named = {"x-api-key": APPLICATION_KEY, "content-type": "application/json", **headers}
    return httpx.post(gateway.url + path, content=body, headers=named, timeout=20)


@BOTH
def test_a_whole_answer_is_a_message(sdk: anthropic.Anthropic, dialect: str) -> None:
    found = sdk.messages.create(model=f"{dialect}-plain", max_tokens=50, messages=HELLO, system="be brief")

    assert [block.to_dict() for block in found.content] == [{"type": "text", "text": "Hello, wörld."}]
    assert (found.stop_reason, found.role, found.id[:4]) == ("end_turn", "assistant", "msg_")
    usage = found.usage
    counts = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.output_tokens)
    assert counts == (10, 20, 5, 7)
    assert usage.to_dict()["cost"] == pytest.approx(COST)
    assert str(found._request_id).startswith("req_")


@BOTH
def test_a_stream_is_text_and_a_final_message(sdk: anthropic.Anthropic, dialect: str) -> None:
    with sdk.messages.stream(model=f"{dialect}-plain", max_tokens=50, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()

    assert len(pieces) > 1
    assert "".join(pieces) == stream.get_final_text() == "".join(b.text for b in final.content if b.type == "text")
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 10, 7)


@BOTH
def test_events_come_in_anthropics_order(sdk: anthropic.Anthropic, dialect: str) -> None:
    events = sdk.messages.create(model=f"{dialect}-tools", max_tokens=50, messages=HELLO, tools=[WEATHER], stream=True)

    kinds = [event.type for event in events if event.type != "content_block_delta"]

    blocks = len(CALLS) - (dialect == "chat")
    assert kinds == [
        "message_start",
        *["content_block_start", "content_block_stop"] * blocks,
        "message_delta",
        "message_stop",
    ]


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_called_in_parallel_and_answered(
    sdk: anthropic.Anthropic, upstream: SpeakingUpstream, dialect: str, streamed: bool
) -> None:
    asked: Any = {"model": f"{dialect}-tools", "max_tokens": 50, "tools": [WEATHER], "messages": HELLO}
    if streamed:
        with sdk.messages.stream(**asked) as stream:
            first = stream.get_final_message()
    else:
        first = sdk.messages.create(**asked)
    calls = [block for block in first.content if block.type == "tool_use"]

    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    turns = [*HELLO, first.to_param(), {"role": "user", "content": results}]
    sdk.messages.create(**{**asked, "messages": turns})

    assert (first.stop_reason, [call.input for call in calls]) == ("tool_use", [{"city": "Paris"}, {"city": "Rome"}])
    sent = upstream.received[-1].words["messages"]
    if dialect == "chat":
        assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]
        assert [one["id"] for one in sent[1]["tool_calls"]] == [one["tool_call_id"] for one in sent[2:]]
    else:
        assert sent[1]["content"][0] == CALLS[0]
        assert sent[2]["content"] == results


@BOTH
def test_a_stream_that_breaks_raises_in_the_sdk(sdk: anthropic.Anthropic, dialect: str) -> None:
    pieces: list[str] = []

    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        sdk.messages.stream(model=f"{dialect}-breaks", max_tokens=50, messages=HELLO) as stream,
    ):
        pieces.extend(stream.text_stream)

    body: Any = caught.value.body
    assert pieces != []
    assert body["type"] == "error"
    assert body["error"]["type"] == ("overloaded_error" if dialect == "claude" else "api_error")
    assert "sk-upstream" not in str(body)


def test_errors_are_those_of_the_sdk(sdk: anthropic.Anthropic, gateway: Served) -> None:
    blocks: Any = [{"role": "user", "content": [{"type": "text"}]}]
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]\.content\[0\]\.text") as malformed:
        sdk.messages.create(model="chat-plain", max_tokens=5, messages=blocks)
    with pytest.raises(anthropic.NotFoundError) as unknown:
        sdk.messages.create(model="nobody", max_tokens=5, messages=HELLO)
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as refused,
    ):
        stranger.messages.create(model="chat-plain", max_tokens=5, messages=HELLO)

    kinds = [error.value.body["error"]["type"] for error in (malformed, unknown, refused)]  # type: ignore[index]
    assert kinds == ["invalid_request_error", "not_found_error", "authentication_error"]
    assert str(malformed.value.request_id).startswith("req_")


BODY = (
    b'{"model": "claude-%b",  "max_tokens":50, "messages": [{"role":"user","content":"h\\u00e9"}],\n"container":"c"%b}'
)


def test_a_request_of_this_dialect_reaches_its_upstream_byte_for_byte(
    gateway: Served, upstream: SpeakingUpstream
) -> None:
    headers = {"anthropic-beta": "compact-2026-01-12,files-api-2025-04-14", "anthropic-version": "2023-06-01"}

    reply = post(gateway, BODY % (b"plain", b""), cookie="a=b", **headers)

    received = upstream.received[-1]
    assert reply.status_code == 200
    expected = b'{"model":"plain","max_tokens":50,"messages":[{"role":"user","content":"h\\u00e9"}],"container":"c"}'
    assert received.body == expected
    assert (received.path, received.headers["x-api-key"]) == ("/v1/messages", "sk-upstream-secret")
    assert received.headers["anthropic-beta"] == "compact-2026-01-12"
    assert not {"cookie", "authorization"} & received.headers.keys()
    assert APPLICATION_KEY not in str(received.headers)


def test_an_answer_of_this_dialect_comes_back_as_it_was_but_for_the_cost(gateway: Served) -> None:
    whole = json.loads(post(gateway, BODY % (b"tools", b"")).content)
    streamed = post(gateway, BODY % (b"tools", b',"stream":true')).content

    assert whole["usage"].pop("cost") == pytest.approx(COST)
    assert whole == json.loads(message("tools"))
    sent, got = message_events("tools").split(b"\n\n"), streamed.split(b"\n\n")
    assert got[:-3] == sent[:-3]
    assert got[-2:] == sent[-2:]
    last = json.loads(got[-3].split(b"data: ")[1])
    assert last["usage"].pop("cost") == pytest.approx(COST)
    assert last == json.loads(sent[-3].split(b"data: ")[1])


def test_what_only_anthropic_can_do_is_refused_where_only_chat_is_left(sdk: anthropic.Anthropic) -> None:
    search: Any = {"type": "web_search_20260318", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\].*web_search_20260318"):
        sdk.messages.create(model="chat-plain", max_tokens=5, messages=HELLO, tools=[search])

    found = sdk.messages.with_raw_response.create(model="either", max_tokens=5, messages=HELLO, tools=[search])

    assert found.headers["x-fingerpost-endpoint"] == "either-claude-1"


def test_tokens_are_counted_by_the_upstream_or_estimated(sdk: anthropic.Anthropic, upstream: SpeakingUpstream) -> None:
    counted = sdk.messages.count_tokens(model="claude-plain", messages=HELLO, tools=[WEATHER])
    estimated = sdk.messages.count_tokens(model="chat-plain", messages=[{"role": "user", "content": "word " * 100}])

    assert counted.input_tokens == COUNTED
    assert upstream.received[-1].path == "/v1/messages/count_tokens"
    assert 80 < estimated.input_tokens < 150


@pytest.mark.parametrize("streamed", [False, True])
def test_a_chat_client_is_answered_by_an_anthropic_upstream(
    gateway: Served, upstream: SpeakingUpstream, streamed: bool
) -> None:
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER["input_schema"]}}
    asked: Any = {"model": "claude-tools", "messages": [{"role": "system", "content": "s"}, *HELLO], "tools": [tool]}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=APPLICATION_KEY, max_retries=0) as client:
        if streamed:
            with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
                found: Any = stream.get_final_completion()
        else:
            found = client.chat.completions.create(**asked)

    message = found.choices[0].message
    assert (message.content, found.choices[0].finish_reason) == ("Let me look.", "tool_calls")
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert found.usage.prompt_tokens_details.cached_tokens == 20
    assert message.model_extra["reasoning_content"] == "Two cities."
    thoughts = [
        {name: value for name, value in one.items() if name != "index"}
        for one in message.model_extra["thinking_blocks"]
    ]
    assert thoughts == [CALLS[0]]
    assert upstream.received[-1].words["system"] == "s"
