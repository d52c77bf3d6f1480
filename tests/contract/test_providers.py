"""What every provider promises, held against every provider that is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.errors import GatewayError
from gateway.providers.base import Provider, Target
from gateway.providers.find import Supplies, providers_of
from gateway.wire.chat_request import parse_chat
from gateway.wire.sse import DONE
from local_runtime.base import Delta
from policies.catalogue import Endpoint, ModelCard
from tests.fakes import WHOLE, FakeHttp, ScriptedEngine

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
SPEECH = (Delta("h", output_tokens=1), Delta("i", output_tokens=2, finish_reason="stop"))


@dataclass
class Case:
    """A provider with a source behind it; `stopped` tells whether that source was told to stop."""

    provider: Provider
    stopped: Callable[[], bool]


def supplies(http: FakeHttp, engine: ScriptedEngine | None) -> Supplies:
    def load(source: str) -> ScriptedEngine:
        if engine is None:
            raise OSError(f"no weights at {source}")
        return engine

    return Supplies(http=http, load_engine=load, embedder=None, max_reply_bytes=10_000)


def openai(stream: bool) -> Case:
    http = FakeHttp(CHUNK * 3 + FINISH + DONE, "text/event-stream") if stream else FakeHttp(WHOLE, "application/json")
    return Case(providers_of(supplies(http, None))["openai"], lambda: http.cancelled > 0)


def local(stream: bool) -> Case:
    engine = ScriptedEngine(*SPEECH)
    return Case(providers_of(supplies(FakeHttp(b"", ""), engine))["local"], lambda: engine.closed > 0)


def gemini(stream: bool) -> Case:
    head = '{"candidates":[{"content":{"role":"model","parts":[{"text":"%s"}]},"index":0%s}],'
    usage = '"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}'
    pieces = [head % ("h", ""), head % ("i", ',"finishReason":"STOP"')]
    events = "".join(f"data: {piece}{usage}\r\n\r\n" for piece in pieces).encode()
    body = (head % ("hi", ',"finishReason":"STOP"') + usage).encode()
    http = FakeHttp(events, "text/event-stream") if stream else FakeHttp(body, "application/json; charset=UTF-8")
    return Case(providers_of(supplies(http, None))["gemini"], lambda: http.cancelled > 0)


def anthropic(stream: bool) -> Case:
    usage = '"usage":{"input_tokens":3,"output_tokens":2}'
    events = [
        '{"type":"message_start","message":{"id":"msg_1","model":"w",' + usage + "}}",
        '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}',
        '{"type":"content_block_stop","index":0}',
        '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}',
        '{"type":"message_stop"}',
    ]
    streamed = "".join(f"event: {json.loads(one)['type']}\ndata: {one}\n\n" for one in events).encode()
    whole = b'{"id":"msg_1","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn",%b}' % usage.encode()
    http = FakeHttp(streamed, "text/event-stream") if stream else FakeHttp(whole, "application/json")
    return Case(providers_of(supplies(http, None))["anthropic"], lambda: http.cancelled > 0)


CASES: dict[str, Callable[[bool], Case]] = {"anthropic": anthropic, "gemini": gemini, "openai": openai, "local": local}
FOUND = sorted(providers_of(supplies(FakeHttp(b"", ""), None)))


def target(provider: Provider, name: str) -> Target:
    row = Endpoint(id="e", model="m", provider=name, base_url="http://127.0.0.1:9/v1", wire_model="w")
    return Target(row, ModelCard(id="m", context_tokens=100), provider, base_url=row.base_url, api_key="sk-secret")


def request(stream: bool) -> bytes:
    return json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]}).encode()


def test_every_provider_has_a_case() -> None:
    assert sorted(CASES) == FOUND


@pytest.mark.parametrize("name", FOUND)
async def test_a_whole_answer_is_one_frame_of_json(name: str) -> None:
    case = CASES[name](False)

    reply = await case.provider.open(parse_chat(request(False)), target(case.provider, name))
    frames = [frame async for frame in reply.frames]

    assert reply.stream is False
    assert len(frames) == 1
    whole = json.loads(frames[0])
    assert whole["choices"][0]["message"]["content"] == "hi"
    assert whole["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("name", FOUND)
async def test_a_stream_is_whole_events_with_one_end_mark_at_the_end(name: str) -> None:
    case = CASES[name](True)

    reply = await case.provider.open(parse_chat(request(True)), target(case.provider, name))
    frames = [frame async for frame in reply.frames]

    assert reply.stream is True
    assert all(frame.endswith(b"\n\n") for frame in frames)
    assert b"".join(frames).count(DONE) == 1
    assert frames[-1].endswith(DONE)


@pytest.mark.parametrize("name", FOUND)
async def test_leaving_early_stops_the_source(name: str) -> None:
    case = CASES[name](True)
    reply = await case.provider.open(parse_chat(request(True)), target(case.provider, name))
    await anext(aiter(reply.frames))

    await reply.frames.aclose()

    assert case.stopped()


@pytest.mark.parametrize("name", FOUND)
async def test_what_fails_is_told_in_our_errors_without_the_key(name: str) -> None:
    http = FakeHttp(b'{"error":{"message":"key sk-secret is bad"}}', "application/json", status=400)
    provider = providers_of(supplies(http, None))[name]

    with pytest.raises(GatewayError) as caught:
        await provider.open(parse_chat(request(False)), target(provider, name))

    assert "sk-secret" not in str(caught.value.detail())
