"""Who runs, and who wins."""

from __future__ import annotations

import pytest

from gateway.strategies.base import NobodyAnswered
from gateway.strategies.race import Race
from policies.schema import StrategySpec
from routers.find import load_router
from tests.unit.gateway.dispatch.calls import chat
from tests.unit.gateway.strategies.panels import DOWN, FakePanel, seat


def race(**spec: object) -> Race:
    return Race.from_spec(StrategySpec.model_validate({"kind": "race", **spec}), load_router)


async def test_the_first_that_answers_wins() -> None:
    panel = FakePanel([seat("a"), seat("b"), seat("c")], {"a": ["1"], "b": ["2"], "c": ["3"]}, slow=["a"])

    told = await race().answer(panel)

    assert told.call.model == "b" and panel.models == ["a", "b", "c"]
    assert "first of 3 to finish" in told.reason


async def test_failures_and_empty_answers_do_not_win() -> None:
    panel = FakePanel([seat("a"), seat("b"), seat("c")], {"a": [DOWN], "b": [" "], "c": ["3"]})

    told = await race().answer(panel)

    assert told.call.model == "c"


async def test_where_nobody_says_anything_an_empty_answer_stands() -> None:
    told = await race().answer(FakePanel([seat("a"), seat("b")], {"a": [DOWN], "b": [""]}))

    assert told.call.model == "b"


async def test_where_all_fail_nobody_has_answered() -> None:
    with pytest.raises(NobodyAnswered):
        await race().answer(FakePanel([seat("a"), seat("b")], {"a": [DOWN], "b": [DOWN]}))


async def test_endpoints_of_one_model_race_where_models_are_few() -> None:
    panel = FakePanel([seat("a", endpoints=4)], {"a": ["1"]})

    await race(n=3).answer(panel)

    assert [[one.candidate.endpoint.id for one in ask.seat.order] for ask in panel.asked] == [["a-0"], ["a-1"], ["a-2"]]


async def test_streams_are_won_by_the_first_to_speak() -> None:
    panel = FakePanel([seat("a"), seat("b")], {"a": ["1"], "b": ["2"]}, request=chat(stream=True))

    told = await race().answer(panel)

    assert told.call.reply is None and "to speak" in told.reason


def test_one_endpoint_makes_no_race() -> None:
    assert race().unfit(chat(), [seat("a")]) is not None
    assert race().unfit(chat(tools=[{"type": "function"}]), [seat("a"), seat("b")]) is None
