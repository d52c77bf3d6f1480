"""Experts by forecast, one aggregator, and what stands where it can't write."""

from __future__ import annotations

import pytest

from gateway.strategies.base import NobodyAnswered
from gateway.strategies.fuse import Fuse
from policies.schema import StrategySpec
from routers.find import load_router
from tests.unit.gateway.dispatch.calls import chat
from tests.unit.gateway.strategies.panels import DOWN, FakePanel, seat

SEATS = [seat("a", 0.3), seat("b", 0.9), seat("c", 0.6)]
SAYS = {"a": ["of a"], "b": ["of b"], "c": ["of c"]}


def fuse(**spec: object) -> Fuse:
    return Fuse.from_spec(StrategySpec.model_validate({"kind": "fuse", **spec}), load_router)


async def test_experts_are_those_with_the_best_forecasts_and_the_best_writes() -> None:
    panel = FakePanel(SEATS, SAYS | {"b": ["of b", "fused"]})

    told = await fuse(n=2).answer(panel)

    assert panel.models == ["b", "c", "b"] and told.call.text == "fused"
    note = panel.asked[-1].request.envelope.messages[-1].content
    assert isinstance(note, str) and "of b" in note and "of c" in note


async def test_the_aggregator_is_asked_last_and_may_be_named() -> None:
    panel = FakePanel(SEATS, SAYS | {"a": ["of a", "fused"]})

    told = await fuse(n=3, aggregator="a").answer(panel)

    assert panel.roles == {"expert": 3, "aggregator": 1} and told.call.text == "fused"


async def test_only_the_aggregator_streams() -> None:
    panel = FakePanel(SEATS, SAYS, request=chat(stream=True))

    told = await fuse(n=2).answer(panel)

    assert [one.request.stream for one in panel.asked] == [False, False, True]
    assert told.call.reply is None


async def test_one_answer_needs_no_aggregator() -> None:
    panel = FakePanel(SEATS, SAYS | {"b": [DOWN]})

    told = await fuse(n=2).answer(panel)

    assert told.call.text == "of c" and "aggregator" not in panel.roles


async def test_the_best_expert_stands_where_the_aggregator_fails() -> None:
    panel = FakePanel(SEATS, SAYS | {"b": ["of b", DOWN]})

    told = await fuse(n=2).answer(panel)

    assert told.call.text == "of b" and "failed" in told.reason


async def test_answers_are_shortened_until_they_fit_the_aggregator() -> None:
    long = "word " * 20_000
    panel = FakePanel(SEATS, {"a": [long], "b": [long, "fused"], "c": [long]})

    told = await fuse(n=3, answer_tokens=8_000).answer(panel)

    assert told.call.text == "fused"
    assert panel.asked[-1].query.features.tokens < 10_000


async def test_where_all_experts_fail_nobody_has_answered() -> None:
    with pytest.raises(NobodyAnswered):
        await fuse(n=2).answer(FakePanel(SEATS, {"a": [DOWN], "b": [DOWN], "c": [DOWN]}))


def test_room_for_two_experts_and_the_aggregator_is_needed() -> None:
    with pytest.raises(ValueError, match="max_calls"):
        fuse(max_calls=2)


def test_one_model_is_too_few() -> None:
    assert "fewer than two" in (fuse().unfit(chat(), SEATS[:1]) or "")
    assert fuse().unfit(chat(), SEATS) is None
