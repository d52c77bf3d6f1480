"""How hard models are asked to think, in whose words, and when not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.dispatch.effort import EffortRule
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_to_gemini import gemini_of
from gateway.wire.chat_to_messages import messages_of
from gateway.wire.messages_request import MessagesDialect
from gateway.wire.reasoning_effort import with_effort
from gateway.wire.responses_request import parse_responses
from policies.catalogue import ModelCard
from policies.schema import EffortLevel
from routers.decision import Forecast
from tests.fakes import FakeProvider
from tests.unit.gateway.dispatch.calls import call, chat, dispatcher, target

THINKER = ModelCard(id="t", context_tokens=10, reasoning=True)


def rule(level: EffortLevel = "auto") -> EffortRule:
    return EffortRule(level, 0.85, 0.6)


def forecast(quality: float, trust: float = 1.0) -> Forecast:
    return Forecast("e", quality, 0, 1, 10, 30, 5.0, trust=trust)


@pytest.mark.parametrize(
    ("quality", "trust", "level"),
    [(0.9, 1, "low"), (0.85, 1, "low"), (0.7, 1, "medium"), (0.3, 1, "high"), (0.9, 0, "medium"), (0.1, 0, "medium")],
)
def test_what_is_easy_for_a_model_needs_little_thought(quality: float, trust: float, level: str) -> None:
    assert rule().of(forecast(quality, trust)) == level


def test_a_policy_s_own_word_counts_whatever_the_forecast() -> None:
    assert rule("high").of(forecast(0.99)) == "high"


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "minimal"},
        {"thinking": {"type": "disabled"}},
        {"tools": [{"type": "function"}]},
    ],
)
def test_what_the_client_says_and_requests_with_tools_stay_as_they_are(fields: dict[str, Any]) -> None:
    assert rule("low").level_for(chat(**fields), THINKER, forecast(0.5)) is None


def test_a_model_that_does_not_reason_is_told_nothing() -> None:
    assert rule("low").level_for(chat(), ModelCard(id="m", context_tokens=10), forecast(0.5)) is None


def words(raw: bytes | msgspec.Raw) -> Any:
    return json.loads(bytes(raw))


def test_each_upstream_is_told_in_its_own_words() -> None:
    request = with_effort(chat(), "low")

    assert words(request.wire_body("m"))["reasoning_effort"] == "low"
    assert messages_of(request, "m", 100)["output_config"] == {"effort": "low"}
    assert gemini_of(request, "gemini-3-pro")["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "LOW"


def test_requests_that_pass_as_they_came_are_told_in_their_own_place() -> None:
    body = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    messages = with_effort(MessagesDialect().parse(msgspec.json.encode(body)), "high")
    asked = {"model": "auto", "input": "hi", "reasoning": {"summary": "auto"}}
    responses = with_effort(parse_responses(msgspec.json.encode(asked)), "high")

    assert original(messages, "output_config") == {"effort": "high"}
    assert original(responses, "reasoning") == {"summary": "auto", "effort": "high"}


def original(request: ChatRequest, name: str) -> Any:
    assert request.original is not None
    return words(request.original.fields[name])


async def test_the_endpoint_that_is_called_gets_its_own_level_and_the_attempt_says_so() -> None:
    provider = FakeProvider()
    plain, thinker = target("plain", provider), target("thinker", provider, reasoning=True)
    for one, level in ((plain, None), (thinker, "medium")):
        made = call(one)
        made.effort = EffortRule("auto", 0.85, 0.5)

        opened = await dispatcher(plain, thinker).open(made)
        await opened.reply.frames.aclose()

        assert made.attempts[0].get("effort") == level
        sent = provider.requests[-1].fields.get("reasoning_effort")
        assert (None if sent is None else words(sent)) == level
