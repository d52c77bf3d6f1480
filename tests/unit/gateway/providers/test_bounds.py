"""How much an upstream may say: one event, one whole answer; the error that it becomes, by every provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import UpstreamBroken
from gateway.providers.anthropic import AnthropicProvider
from gateway.providers.base import Provider, Target
from gateway.providers.gemini import GeminiProvider
from gateway.providers.openai import OpenAIProvider
from gateway.wire.chat_request import parse_chat
from gateway.wire.sse import EVENT_LIMIT
from policies.catalogue import Endpoint, ModelCard
from tests.fakes import FakeHttp

STREAM = parse_chat(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
PROVIDERS: list[Callable[..., Provider]] = [OpenAIProvider, AnthropicProvider, GeminiProvider]


def target(provider: Provider, key: str = "sk-secret") -> Target:
    row = Endpoint(id="e", model="m", provider="openai", base_url="http://127.0.0.1:9/v1")
    return Target(row, ModelCard(id="m", context_tokens=100), provider, row.base_url, key)


@pytest.mark.parametrize("make", PROVIDERS)
async def test_an_event_without_end_breaks_the_stream(make: Callable[..., Provider]) -> None:
    http = FakeHttp(b"data: " + b"x" * (EVENT_LIMIT + 10), "text/event-stream", cut=1024 * 1024)
    provider = make(http, 1000)
    reply = await provider.open(STREAM, target(provider))

    with pytest.raises(UpstreamBroken, match="an event of more than 8388608 bytes"):
        [frame async for frame in reply.frames]

    assert http.cancelled == 1


@pytest.mark.parametrize("make", PROVIDERS)
async def test_an_answer_of_another_kind_is_told_without_our_key(make: Callable[..., Provider]) -> None:
    provider = make(FakeHttp(b"<html>", "text/html; a=sk-secret"), 1000)

    with pytest.raises(UpstreamBroken, match=r"text/html; a=\[redacted\]"):
        await provider.open(STREAM, target(provider))


@pytest.mark.parametrize(("make", "header"), [(OpenAIProvider, "Authorization"), (AnthropicProvider, "x-api-key")])
async def test_another_key_of_an_endpoint_is_used_at_once(make: Callable[..., Any], header: str) -> None:
    http = FakeHttp(b"data: [DONE]\n\n", "text/event-stream")
    provider = make(http, 1000)

    for key in ("sk-old", "sk-new"):
        await provider.open(STREAM, target(provider, key))

    assert [headers[header].removeprefix("Bearer ") for _, headers, _ in http.sent] == ["sk-old", "sk-new"]
