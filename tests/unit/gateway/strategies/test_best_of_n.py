"""Three scorers, and what stands where they have nothing to say."""

from __future__ import annotations

import pytest

from gateway.strategies.base import NobodyAnswered
from gateway.strategies.best_of_n import BestOfN, number_in
from policies.schema import StrategySpec
from routers.find import load_router
from tests.unit.gateway.strategies.panels import DOWN, FakePanel, seat

AWAY, NEAR, NEARER = [1.0, 0.0], [0.0, 1.0], [0.1, 0.995]


def best(**spec: object) -> BestOfN:
    return BestOfN.from_spec(StrategySpec.model_validate({"kind": "best_of_n", **spec}), load_router)


async def test_the_sample_nearest_to_all_others_is_the_consensus() -> None:
    panel = FakePanel([seat("a")], {"a": ["odd", "one", "two"]}, vectors={"odd": AWAY, "one": NEAR, "two": NEARER})

    told = await best().answer(panel)

    assert told.call.text == "two" and told.call.signals is not None and told.call.signals.score is not None


async def test_without_an_embedder_the_first_sample_stands() -> None:
    told = await best().answer(FakePanel([seat("a")], {"a": ["1", "2", "3"]}))

    assert told.call.text == "1" and "no embedder" in told.reason


async def test_the_likeliest_sample_wins_by_its_tokens() -> None:
    panel = FakePanel(
        [seat("a", logprobs=True), seat("b", logprobs=True)],
        {"a": ["1"], "b": ["2"]},
        logprob={"a": -2.0, "b": -0.5},
    )

    told = await best(n=2, scorer="logprob", models=["*"]).answer(panel)

    assert told.call.text == "2"
    assert all(one.request.envelope.logprobs for one in panel.asked)


async def test_without_probabilities_the_first_sample_stands() -> None:
    told = await best(scorer="logprob").answer(FakePanel([seat("a")], {"a": ["1", "2", "3"]}))

    assert told.call.text == "1" and "no probabilities" in told.reason


async def test_a_judge_picks_and_sees_bounded_samples() -> None:
    panel = FakePanel([seat("a"), seat("j")], {"a": ["first", "word " * 5000, "third"], "j": ["2"]})

    told = await best(scorer="judge", judge="j", answer_tokens=100).answer(panel)

    assert told.call.text.startswith("word") and panel.roles == {"sample": 3, "judge": 1}
    note = panel.asked[-1].request.envelope.messages[-1].content
    assert isinstance(note, str) and "[... shortened ...]" in note and len(note) < 3000


@pytest.mark.parametrize("says", ["none of them", "4", "0", "Both 1 and 2", "", DOWN])
async def test_a_judge_without_a_number_leaves_the_first_sample(says: str) -> None:
    told = await best(scorer="judge", judge="j").answer(
        FakePanel([seat("a"), seat("j")], {"a": ["1st", "2nd", "3rd"], "j": [says]})
    )

    assert told.call.text == "1st" and "gave no number" in told.reason


async def test_a_judge_leaves_room_for_itself() -> None:
    panel = FakePanel([seat("a"), seat("j")], {"a": ["x"], "j": ["1"]}, most=3)

    await best(n=5, scorer="judge", judge="j").answer(panel)

    assert panel.roles == {"sample": 2, "judge": 1}


async def test_refusals_are_not_judged() -> None:
    refusal = "I'm sorry, but I can't help with that."
    panel = FakePanel([seat("a"), seat("j")], {"a": [refusal, "fine", refusal], "j": ["1"]})

    told = await best(scorer="judge", judge="j").answer(panel)

    assert told.call.text == "fine" and panel.roles == {"sample": 3}


async def test_where_all_fail_nobody_has_answered() -> None:
    with pytest.raises(NobodyAnswered):
        await best().answer(FakePanel([seat("a")], {"a": [DOWN]}))


@pytest.mark.parametrize(("said", "number"), [("2", 2), (" 2.\n", 2), ("Answer 3", 3), ("I think\n**1**", 1)])
def test_a_number_may_be_dressed(said: str, number: int) -> None:
    assert number_in(said, 3) == number
