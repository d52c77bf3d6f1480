"""A second model that writes guesses: what comes out, what is computed, and what happens when it fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.base import Delta, Sampling
from local_runtime.decoding.draft_model import READ_A_STEP, DraftModel
from local_runtime.decoding.drafts import Odds
from local_runtime.decoding.pace import Adaptive, Costs, Fixed, Pace, StepPlan
from local_runtime.models.base import Logits, Segment
from local_runtime.scheduler import MOST_GUESSES, Scheduler
from local_runtime.sequence import Sequence as Running
from local_runtime.sequence import new_sequence
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.scripted import ScriptedModel
from tests.unit.local_runtime.tiny import byte_tokenizer

TOKENIZER = Tokenizer(byte_tokenizer(), {}, [257])
GARBAGE = 3
VARIED = [97, *np.random.default_rng(0).permutation(np.arange(100, 250)).tolist()]


class Costly(Fixed):
    """Up to seven guesses, at what a test says that they cost."""

    def __init__(self, costs: Costs) -> None:
        super().__init__(MOST_GUESSES)
        self._said = costs

    def costs(self) -> Costs:
        return self._said


class Unsure(ScriptedModel):
    """Finds all tokens nearly alike."""

    def forward(self, segments: Sequence[Segment]) -> Logits:
        return super().forward(segments) / np.float32(100)


class Failing(ScriptedModel):
    """Fails at its sixth call."""

    def forward(self, segments: Sequence[Segment]) -> Logits:
        if len(self.calls) == 5:
            raise MemoryError("no memory left")
        return super().forward(segments)


def following(scripts: list[list[int]], wrong: frozenset[int] = frozenset()) -> ScriptedModel:
    """Says its script as long as it has seen nothing else, but for positions that it gets wrong."""

    def says(seen: list[int]) -> int:
        script = next((script for script in scripts if script[: len(seen)] == seen), None)
        if script is None or len(seen) in wrong:
            return GARBAGE
        return script[len(seen)] if len(seen) < len(script) else 257

    return ScriptedModel(says, invariant=True)


def drafting(model: ScriptedModel, context: int = 1000) -> DraftModel:
    return DraftModel(model, model.vocab_size, context, kept_pages=0)


def answers(
    scripts: list[list[int]], pace: Pace, draft: DraftModel | None, prompt: int = 4, max_tokens: int = 60
) -> tuple[list[list[int]], Scheduler]:
    scheduler = Scheduler(following(scripts), most=3, pace=pace, draft=draft)
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    parts = [new_sequence(script[:prompt], sampling, TOKENIZER, 1000) for script in scripts]
    for part in parts:
        scheduler.add(part)
    while not scheduler.idle:
        for result in scheduler.step():
            assert isinstance(result.outcome, Delta)
    return [part.history.generated for part in parts], scheduler


@given(
    st.lists(st.lists(st.integers(65, 90), min_size=4, max_size=50), min_size=1, max_size=4),
    st.frozensets(st.integers(4, 50)),
    st.integers(0, 7),
    st.integers(1, 60),
)
def test_whatever_a_draft_model_writes_the_answer_stays_the_same(
    bodies: list[list[int]], wrong: frozenset[int], guesses: int, max_tokens: int
) -> None:
    scripts = [[97 + i, *body] for i, body in enumerate(bodies)]
    plain, slow = answers(scripts, Fixed(0), None, max_tokens=max_tokens)
    draft = drafting(following(scripts, wrong))

    told, quick = answers(scripts, Fixed(guesses), draft, max_tokens=max_tokens)

    assert told == plain
    assert quick.steps <= slow.steps and quick.tokens_out == slow.tokens_out
    assert draft.pages.available == ScriptedModel.page_count


@given(st.frozensets(st.integers(6, 60)), st.integers(1, 7))
def test_guesses_that_were_wrong_are_forgotten_and_those_that_were_right_are_kept(
    wrong: frozenset[int], guesses: int
) -> None:
    draft = drafting(following([VARIED], wrong))

    told, scheduler = answers([VARIED], Fixed(guesses), draft)

    steps, at, end = 2, 5, 64  # a step for the prompt and its first token, and from there on those counted
    while (at := at + _right(at, guesses, wrong, end) + 1) < end:
        steps += 1
    assert told == [VARIED[4:64]]
    assert scheduler.steps == steps


def _right(at: int, guesses: int, wrong: frozenset[int], end: int) -> int:
    most = min(guesses, end - at - 1)
    return next((i for i in range(most) if at + i in wrong), most)


def test_a_draft_model_computes_each_right_token_once() -> None:
    model = following([VARIED])

    answers([VARIED], Fixed(4), drafting(model), prompt=30)

    fed = [position for call in model.calls for s in call for position in range(s.start, s.start + len(s.tokens))]
    assert sorted(fed) == sorted(set(fed))


def test_a_draft_model_that_fails_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    model = Failing(following([VARIED]).answer)

    with caplog.at_level(logging.ERROR):
        told, scheduler = answers([VARIED], Fixed(3), drafting(model))

    assert told == [VARIED[4:64]]
    assert len(model.calls) == 5 and scheduler.guessed_right == 3
    assert caplog.text.count("the draft model failed") == 1


def test_a_long_prompt_is_read_in_parts_so_that_nobody_waits_for_it() -> None:
    scripts = [[97 + i, *np.random.default_rng(i).integers(100, 256, 230).tolist()] for i in range(2)]
    model = following(scripts)

    told, scheduler = answers(scripts, Fixed(5), drafting(model), prompt=200, max_tokens=20)

    assert told == [script[200:220] for script in scripts]
    assert max(sum(len(s.tokens) for s in call) for call in model.calls) <= READ_A_STEP + 8
    assert scheduler.guessed_right > 10


def test_nothing_is_written_beyond_what_the_draft_model_can_read() -> None:
    model = following([VARIED])

    told, scheduler = answers([VARIED], Fixed(3), drafting(model, context=20))

    assert told == [VARIED[4:64]] and scheduler.guessed_right > 5
    assert max(s.start + len(s.tokens) for call in model.calls for s in call) <= 20


def test_where_no_pages_are_left_a_sequence_goes_on_without_guesses() -> None:
    scripts = [[97, *VARIED[1:]], [98, *VARIED[1:]]]
    model = following(scripts)
    model.page_count = 3

    told, _ = answers(scripts, Fixed(7), drafting(model))

    assert told == [VARIED[4:64]] * 2


def test_a_token_that_the_main_model_does_not_know_is_never_guessed() -> None:
    model = following([VARIED])
    model.vocab_size = 300
    model.answer = lambda seen: 299

    told, scheduler = answers([VARIED], Fixed(2), DraftModel(model, 258, 1000))

    main = scheduler._model
    assert isinstance(main, ScriptedModel)
    assert told == [VARIED[4:64]] and scheduler.guessed > 0
    assert max(token for call in main.calls for s in call for token in s.tokens) < 258


def test_a_draft_model_that_costs_too_much_is_tried_now_and_then_only() -> None:
    scripts = [[97 + i, *VARIED[1:]] for i in range(17)]
    model = following(scripts)

    told, _ = answers(scripts, Costly(Costs(0.1, 3.0, 0.1)), drafting(model))

    tried = {s.tokens[0] for call in model.calls for s in call if s.start == 0}
    assert told == [VARIED[4:64]] * 17
    assert tried == {97, 97 + 16} and len(model.calls) == 16


def test_a_guess_that_is_likelier_wrong_than_its_row_is_worth_is_not_checked() -> None:
    costs = Costs(0.3, 0.05, 0.01)
    sure, unsure = following([VARIED]), Unsure(following([VARIED]).answer)

    told, bold = answers([VARIED], Costly(costs), drafting(sure))
    same, shy = answers([VARIED], Costly(costs), drafting(unsure))

    assert told == same == [VARIED[4:64]]
    assert bold.guessed > 30 and shy.guessed == 0 < len(unsure.calls)


def test_probabilities_are_believed_as_far_as_they_came_true() -> None:
    costs = Costs(0.3, 0.05, 0.01)
    boasting = drafting(following([VARIED], frozenset(range(300))))
    sure = np.zeros(258, dtype=np.float32)
    sure[7] = 30.0
    before = boasting._guess(sure)

    _, scheduler = answers([VARIED], Costly(costs), boasting)

    after = boasting._guess(sure)
    assert 0 < scheduler.guessed < 20 and scheduler.guessed_right == 0
    assert before[0] == after[0] == 7 and before[1] == after[1] > 0.99
    assert before[2] > 0.9 and after[2] < 0.6


def test_what_repeats_is_looked_up_and_not_written() -> None:
    script = [97, *([65, 66, 67, 68, 69, 70] * 20)]
    model = following([script])

    _, scheduler = answers([script], Costly(Costs(0.1, 0.3, 0.01)), drafting(model), prompt=40)

    assert scheduler.guessed_right > 40 and not model.calls


def test_choices_of_one_prompt_are_read_once() -> None:
    script = VARIED * 2
    model = following([script])
    draft = DraftModel(model, 258, 1000)
    scheduler = Scheduler(following([script]), most=3, pace=Fixed(2), draft=draft)
    parts: list[Running] = []
    for _ in range(3):
        parts.append(new_sequence(script[:100], Sampling(temperature=0, max_tokens=40), TOKENIZER, 1000))
        scheduler.add(parts[-1])
        while not scheduler.idle:
            scheduler.step()

    assert all(part.history.generated == script[100:140] for part in parts)
    assert draft.pages.found_tokens >= 2 * 96


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 20), st.floats(0.02, 1), st.floats(0, 1), st.integers(0, 9))
def test_what_a_plan_takes_in_makes_its_rate_higher(
    first: float, further: float, rows: int, row: float, draft: float, most: int
) -> None:
    plan = StepPlan(rows, Costs(row, draft, 0.0))
    cost, chance = plan.costs.guess(1), first
    gain, worth = plan.gain(Odds(first, further), cost, most), most > 0 and plan.pays(first, cost)

    for _ in range(most):
        before = plan.rate
        if not plan.pays(chance, cost):
            break
        plan.add(chance, cost)
        assert plan.rate > before
        chance *= further

    assert (gain > 0) == worth


def test_what_a_draft_model_costs_is_measured_and_tried_before_that() -> None:
    pace = Adaptive()
    at_first = pace.costs()
    for rows in [1, 2, 4, 8] * 10:
        pace.took(rows, 0.010 + 0.001 * (rows - 1))
        pace.drafted(rows, 0.004 + 0.0002 * (rows - 1))
    later = pace.costs()

    assert at_first.draft_step(1) < 0.2
    assert later.draft_step(1) == pytest.approx(0.4, rel=0.02)
    assert later.draft_step(5) == pytest.approx(0.48, rel=0.02)
    assert later.guess(5) == pytest.approx(0.1 + 0.48 / 5, rel=0.02)
