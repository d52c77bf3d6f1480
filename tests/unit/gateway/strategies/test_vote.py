"""Who is asked for samples, and which one stands."""

from __future__ import annotations

import pytest

from gateway.strategies.base import NobodyAnswered
from gateway.strategies.vote import Vote
from policies.schema import StrategySpec
from routers.find import load_router
from tests.unit.gateway.dispatch.calls import chat
from tests.unit.gateway.strategies.panels import DOWN, FakePanel, seat


def vote(**spec: object) -> Vote:
    return Vote.from_spec(StrategySpec.model_validate({"kind": "vote", "max_calls": 16, **spec}), load_router)


async def test_samples_are_of_the_model_that_the_router_ranks_first() -> None:
    panel = FakePanel([seat("a"), seat("b")], {"a": ["1", "2", "2", "2"], "b": ["9"]})

    told = await vote(n=4).answer(panel)

    assert told.call.text == "2" and set(panel.models) == {"a"}
    assert "3 of 4 samples agree" in told.reason


async def test_named_models_are_asked_in_turn() -> None:
    panel = FakePanel([seat("a"), seat("b"), seat("c")], {"a": ["1"], "b": ["2"], "c": ["3"]})

    await vote(n=4, models=["a", "c"], confidence=1.0).answer(panel)

    assert panel.models == ["a", "c", "a", "c"]


async def test_a_unanimous_vote_asks_for_no_sample_too_many() -> None:
    panel = FakePanel([seat("a")], {"a": ["7"]})

    told = await vote(n=15).answer(panel)

    assert len(panel.asked) == 4  # 4 to none is a majority with 97 %
    assert "11 more were not needed" in told.reason


async def test_a_close_vote_asks_for_all() -> None:
    panel = FakePanel([seat("a")], {"a": ["1", "2", "1", "2", "1"]})

    told = await vote(n=5).answer(panel)

    assert len(panel.asked) == 5 and told.call.text == "1"


async def test_a_tie_goes_to_the_better_forecast() -> None:
    panel = FakePanel([seat("a", 0.4), seat("b", 0.8)], {"a": ["1"], "b": ["2"]})

    told = await vote(n=2, models=["*"]).answer(panel)

    assert told.call.text == "2"


async def test_refusals_and_failures_have_no_vote() -> None:
    refusal = "I'm sorry, but I can't help with that."
    panel = FakePanel([seat("a")], {"a": [refusal, DOWN, refusal, "4", refusal]})

    told = await vote(n=5).answer(panel)

    assert told.call.text == "4"


async def test_only_refusals_give_a_refusal() -> None:
    panel = FakePanel([seat("a")], {"a": ["I'm sorry, but I can't help with that."]})

    told = await vote(n=3).answer(panel)

    assert told.call.text.startswith("I'm sorry")


async def test_where_all_fail_the_first_failure_is_told() -> None:
    with pytest.raises(NobodyAnswered) as caught:
        await vote(n=3).answer(FakePanel([seat("a")], {"a": [DOWN]}))

    assert caught.value.error is DOWN


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "choices"),
        ({"audio": {"voice": "v"}}, "audio"),
        ({"messages": [{"role": "assistant", "content": "so"}]}, "user's message"),
    ],
)
def test_what_can_not_be_compared_is_not_voted_on(fields: dict[str, object], why: str) -> None:
    assert why in (vote().unfit(chat(**fields), [seat("a")]) or "")


def test_a_plain_request_is_voted_on_where_its_models_can_answer() -> None:
    assert vote().unfit(chat(), [seat("a")]) is None
    assert vote(models=["x*"]).unfit(chat(), [seat("a")]) is not None
