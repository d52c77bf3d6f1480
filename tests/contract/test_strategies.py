"""What every strategy owes to the pipeline, whatever it does: run over all files that are found."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.strategies.base import NobodyAnswered, Strategy, Told
from gateway.strategies.find import strategies, strategy_class
from policies.schema import StrategySpec
from routers.find import load_router
from tests.unit.gateway.dispatch.calls import chat
from tests.unit.gateway.strategies.panels import DOWN, FakePanel, seat

SEATS = [seat("a", 0.9, 10.0), seat("b", 0.6, 5.0), seat("c", 0.3, 1.0)]
NAMES = [one.card.id for one in SEATS]
KINDS = strategies()
pytestmark = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, **spec: Any) -> Strategy:
    return strategy_class(kind).from_spec(StrategySpec.model_validate({"kind": kind, **spec}), load_router)


def panel(says: Any, most: int = 4, stream: bool = False) -> FakePanel:
    return FakePanel(SEATS, dict.fromkeys(NAMES, says), request=chat(stream=stream), most=most)


async def test_it_tells_of_a_call_that_it_has_made_and_says_why(kind: str) -> None:
    asked = panel(["yes"])

    told = await made(kind).answer(asked)

    assert isinstance(told, Told) and told.call.has_answered and told.call.text == "yes"
    assert told.call.ask in asked.asked
    assert told.reason.endswith(".") and told.reason[0] in "'ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890"


@pytest.mark.parametrize("most", [3, 4, 16])
async def test_it_makes_no_call_beyond_its_bound(kind: str, most: int) -> None:
    asked = panel(["one", "two", "three", "four"], most)

    await made(kind, n=16, max_calls=most).answer(asked)

    assert 1 <= len(asked.asked) <= most


async def test_a_failure_is_passed_over_while_others_answer(kind: str) -> None:
    asked = FakePanel(SEATS, {"a": [DOWN, "yes"], "b": ["yes"], "c": ["yes"]}, most=4)

    told = await made(kind).answer(asked)

    assert told.call.text == "yes"


async def test_where_all_fail_nobody_has_answered(kind: str) -> None:
    with pytest.raises(NobodyAnswered) as caught:
        await made(kind).answer(panel([DOWN]))

    assert caught.value.error is DOWN


async def test_a_stream_is_told_of_only_where_one_is_wanted(kind: str) -> None:
    asked = panel(["yes"])

    told = await made(kind).answer(asked)

    assert told.call.reply is not None and not any(one.request.stream for one in asked.asked)


async def test_calls_that_are_looked_at_are_asked_for_whole(kind: str) -> None:
    asked = panel(["yes"], stream=True)

    told = await made(kind).answer(asked)

    looked_at = [one for one in asked.asked if one is not told.call.ask and one.role != "racer"]
    assert not any(one.request.stream for one in looked_at)


def test_it_says_what_it_does_not_fit(kind: str) -> None:
    fault = made(kind).unfit(chat(), SEATS)

    assert fault is None
    assert made(kind, models=["nobody-*"]).unfit(chat(), SEATS)
