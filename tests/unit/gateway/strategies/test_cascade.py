"""Rounds by the signals of answers; the policy that decides is the real one without artifact."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from gateway.strategies.base import NobodyAnswered
from gateway.strategies.cascade import Cascade
from policies.schema import StrategySpec
from routers.find import load_router
from routers.kinds.cascade import Cascade as TrainedCascade
from routers.kinds.ridge import RidgeRouter
from routers.training.simulator import make_world, simulate
from tests.unit.gateway.dispatch.calls import chat
from tests.unit.gateway.strategies.panels import DOWN, FakePanel, seat

SEATS = [seat("dear", 0.9, 100.0), seat("cheap", 0.3, 1.0, logprobs=True), seat("middle", 0.6, 10.0)]
REFUSAL = "I'm sorry, but I can't help with that."


def cascade(**spec: object) -> Cascade:
    return Cascade.from_spec(StrategySpec.model_validate({"kind": "cascade", **spec}), load_router)


async def test_the_cheapest_is_asked_first_and_a_sure_answer_ends_it() -> None:
    panel = FakePanel(SEATS, {"cheap": ["42"]}, logprob={"cheap": -0.1})

    told = await cascade().answer(panel)

    assert panel.models == ["cheap"] and told.call.text == "42"
    assert panel.asked[0].request.envelope.logprobs is True


async def test_a_refusal_leads_on_to_a_dearer_model() -> None:
    panel = FakePanel(SEATS, {"cheap": [REFUSAL], "middle": ["no idea, really " * 9], "dear": ["yes"]})

    told = await cascade().answer(panel)

    assert panel.models == ["cheap", "middle", "dear"] and told.call.text == "yes"


async def test_a_model_that_fails_is_passed_over() -> None:
    panel = FakePanel(SEATS, {"cheap": [DOWN], "middle": ["fine"], "dear": ["yes"]})

    told = await cascade(threshold=0.5).answer(panel)

    assert panel.models == ["cheap", "middle"] and told.call.text == "fine"


async def test_where_all_fail_nobody_has_answered() -> None:
    with pytest.raises(NobodyAnswered):
        await cascade().answer(FakePanel(SEATS, {"cheap": [DOWN], "middle": [DOWN], "dear": [DOWN]}))


async def test_the_last_round_streams_and_no_other_does() -> None:
    panel = FakePanel(SEATS, {"cheap": [REFUSAL], "middle": [REFUSAL], "dear": ["yes"]}, request=chat(stream=True))

    told = await cascade().answer(panel)

    assert [one.request.stream for one in panel.asked] == [False, False, True]
    assert told.call.model == "dear" and "Round 3 is the last" in told.reason


async def test_the_number_of_calls_is_bounded() -> None:
    panel = FakePanel(SEATS, {"cheap": [REFUSAL], "middle": ["maybe"], "dear": ["yes"]})

    told = await cascade(max_calls=2, threshold=0.99).answer(panel)

    assert panel.models == ["cheap", "middle"] and told.call.text == "maybe"


async def test_the_surest_answer_stands_where_no_further_call_is_paid_for() -> None:
    class Poor(FakePanel):
        async def ask(self, ask):  # type: ignore[no-untyped-def]
            call = await super().ask(ask)
            self.refusal = "No further call was made: the budget is spent."
            return call

    told = await cascade().answer(Poor(SEATS, {"cheap": [REFUSAL], "middle": ["x"], "dear": ["y"]}))

    assert told.call.model == "cheap" and "the budget is spent" in told.reason


async def test_three_short_answers_are_put_to_a_vote() -> None:
    panel = FakePanel(SEATS, {"cheap": ["7"], "middle": ["8"], "dear": ["7"]}, logprob={})

    told = await cascade(threshold=1.0, max_calls=3).answer(panel)

    assert told.call.text == "7" and "agree" in told.reason


def test_one_model_makes_no_cascade() -> None:
    assert cascade().unfit(chat(), SEATS[:1]) is not None
    assert cascade().unfit(chat(n=2), SEATS) is not None
    assert cascade().unfit(chat(tools=[{"type": "function"}]), SEATS) is None


def test_an_artifact_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="there is no artifact 'nowhere'"):
        cascade(artifact="nowhere")


async def test_a_trained_cascade_is_served_from_its_artifact_and_sees_the_query_s_embedding(tmp_path: Path) -> None:
    data = simulate(make_world(seed=1), 120, 2).dataset
    settings = {"base": "ridge", "folds": 2, "weights": 2, "epochs": 2}
    trained = TrainedCascade.fit(data, seed=3, settings=settings)
    trained.artifact.save(tmp_path / "made")
    seats = [seat(name, quality, price) for name, quality, price in (("a", 0.9, 9.0), ("b", 0.7, 3.0), ("c", 0.4, 1.0))]
    vector = [float(one) for one in data.inputs.embeddings[0]]
    panel = FakePanel(seats, {name: ["7"] for name in "abc"}, vectors={"What is it?": vector})

    told = await Cascade.from_spec(
        StrategySpec(kind="cascade", artifact="made"), partial(load_router, folders=(tmp_path,))
    ).answer(panel)

    assert 1 <= len(panel.asked) <= trained.policy.max_rounds and told.call.text == "7"
    assert panel.asked[0].query.embedding is not None


async def test_another_kind_s_artifact_is_refused(tmp_path: Path) -> None:
    data = simulate(make_world(seed=1), 60, 2).dataset
    RidgeRouter.fit(data, seed=3).artifact.save(tmp_path / "ridge")

    with pytest.raises(ValueError, match="cascade"):
        Cascade.from_spec(StrategySpec(kind="cascade", artifact="ridge"), partial(load_router, folders=(tmp_path,)))
