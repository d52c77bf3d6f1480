"""The OpenAI provider against streams that are legal but unusual, and against errors in any dress."""

from __future__ import annotations

import pytest

from gateway.dispatch.meters.chat import ChatMeter
from gateway.errors import UpstreamBroken, UpstreamError
from gateway.providers.base import Target
from gateway.providers.openai import OpenAIProvider
from gateway.wire.chat_request import parse_chat
from gateway.wire.sse import DONE
from policies.catalogue import Endpoint, ModelCard
from tests.fakes import FakeHttp

REQUEST = parse_chat(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
CHUNK = b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"STOP"}]}\n\n'
ERROR = b'{"error":{"message":"boom sk-secret"}}'


async def frames(body: bytes, content_type: str = "text/event-stream", cut: int = 7) -> list[bytes]:
    provider = OpenAIProvider(FakeHttp(body, content_type, cut=cut), 10_000)
    row = Endpoint(id="e", model="m", provider="openai", base_url="http://127.0.0.1:9/v1")
    card = ModelCard(id="m", context_tokens=100)
    reply = await provider.open(REQUEST, Target(row, card, provider, row.base_url, "sk-secret"))
    return [frame async for frame in reply.frames]


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]\n\n",
        b"data:[DONE]\n\n",
        b"data: [DONE]\n\n: bye\n\n",
        b"data: [DONE]\n",
        b"data: [DONE]",
        b"id: 9\ndata: [DONE]\n\n",
    ],
)
@pytest.mark.parametrize("cut", [3, 1000])
async def test_however_the_end_is_marked_there_is_one_mark_at_the_end(end: bytes, cut: int) -> None:
    text = b"".join(await frames(CHUNK + end, cut=cut))

    assert text == CHUNK + DONE


@pytest.mark.parametrize(
    "dress", [b"data: %b\n\n", b"data:%b\n\n", b"event: error\ndata: %b\n\n", b": x\nid: 1\ndata: %b\n\n"]
)
async def test_an_error_event_is_an_error_however_it_is_dressed_and_keeps_our_key(dress: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        await frames(dress % ERROR)

    assert "boom" in caught.value.message
    assert "sk-secret" not in caught.value.message


async def test_a_byte_order_mark_and_odd_cases_do_no_harm() -> None:
    assert (
        b"".join(await frames(b"\xef\xbb\xbf" + CHUNK + DONE, "Text/Event-Stream; charset=utf-8", cut=100))
        == CHUNK + DONE
    )


async def test_half_an_event_at_the_end_is_a_broken_stream() -> None:
    with pytest.raises(UpstreamBroken):
        await frames(CHUNK + b'data: {"choi')


@pytest.mark.parametrize("dress", [b"data:%b", b"event: message\ndata: %b", b"id: 1\ndata: %b\n: c"])
def test_usage_is_read_and_hidden_in_any_dress(dress: bytes) -> None:
    meter = ChatMeter(ModelCard(id="m", context_tokens=10), 5, wants_usage=False)
    usage = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}'

    assert meter.stream(dress % usage + b"\n\n") == b""
    assert (meter.settle().input_tokens, meter.settle().output_tokens) == (7, 2)


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"x":{"a":1,"usage":null},"choices":[]}\n\n',
        b'data: {"\xff":1,"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"usage":' + b"[" * 3000 + b"]" * 3000 + b"}\n\n",
        b'data: {"usage":{"prompt_tokens":1e400}}\n\n',
    ],
)
def test_what_looks_like_usage_but_is_none_passes_untouched(odd: bytes) -> None:
    meter = ChatMeter(ModelCard(id="m", context_tokens=10), 5, wants_usage=False)

    assert meter.stream(odd) == odd


def test_unknown_usage_fields_keep_their_bytes() -> None:
    meter = ChatMeter(ModelCard(id="m", context_tokens=10), 5, wants_usage=True)

    shown = meter.whole(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"n":1e400,"m": 1.50}}')

    assert b'"n":1e400,"m":1.50' in shown
