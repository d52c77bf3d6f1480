"""What one step computes: admission, chunks, mixing, leaving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.base import Delta, GenerationError, Sampling
from local_runtime.decoding.base import History
from local_runtime.decoding.drafts import PromptLookup
from local_runtime.decoding.filters import BadLogits
from local_runtime.decoding.pace import Fixed, Pace
from local_runtime.models.base import Logits, Segment
from local_runtime.scheduler import PREFILL_CHUNK, PREFILL_TOKENS_A_STEP, Scheduler
from local_runtime.sequence import Sequence as Running
from local_runtime.sequence import new_sequence
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.scripted import ScriptedModel, spells
from tests.unit.local_runtime.tiny import byte_tokenizer

TOKENIZER = Tokenizer(byte_tokenizer(), {}, [257])


def sequence(prompt: int = 1, *, context: int = 1000, max_tokens: int | None = None) -> Running:
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    return new_sequence([65] * prompt, sampling, TOKENIZER, context)


def run_all(scheduler: Scheduler) -> dict[Running, list[Delta]]:
    out: dict[Running, list[Delta]] = {}
    while not scheduler.idle:
        for result in scheduler.step():
            assert isinstance(result.outcome, Delta)
            out.setdefault(result.sequence, []).append(result.outcome)
    return out


def test_sequences_of_a_batch_finish_independently_and_the_next_one_takes_the_free_slot() -> None:
    model = ScriptedModel(lambda seen: 257 if len(seen) >= seen[0] else 66)
    scheduler = Scheduler(model, most=2)
    lengths = [3, 9, 4]
    parts = [new_sequence([length], Sampling(temperature=0), TOKENIZER, 50) for length in lengths]
    for part in parts:
        scheduler.add(part)
    results = run_all(scheduler)
    assert [results[part][-1].output_tokens for part in parts] == lengths
    assert max(len(call) for call in model.calls) == 2
    assert scheduler.steps == 9


def test_a_long_prompt_is_computed_in_chunks_beside_running_sequences() -> None:
    model = ScriptedModel(lambda seen: 66)
    scheduler = Scheduler(model, most=2)
    scheduler.add(sequence(1))
    scheduler.step()
    scheduler.add(sequence(3 * PREFILL_CHUNK + 5))
    for _ in range(4):
        scheduler.step()
    sizes = [[len(segment.tokens) for segment in call] for call in model.calls]
    assert sizes == [[1], [1, 64], [1, 64], [1, 64], [1, 5]]
    assert [call[1].logits for call in model.calls[1:]] == [0, 0, 0, 1]


def test_prompts_share_a_step_up_to_its_budget_and_all_get_their_turn() -> None:
    model = ScriptedModel(spells("x"))
    scheduler = Scheduler(model, most=8)
    parts = [sequence(PREFILL_CHUNK + 1, max_tokens=1) for _ in range(8)]
    for part in parts:
        scheduler.add(part)
    results = run_all(scheduler)
    assert set(results) == set(parts)
    assert max(sum(len(s.tokens) for s in call) for call in model.calls) <= PREFILL_TOKENS_A_STEP


def test_chunk_borders_do_not_depend_on_what_else_runs() -> None:
    def borders(neighbours: int) -> list[int]:
        model = ScriptedModel(lambda seen: 66)
        scheduler = Scheduler(model, most=8)
        for _ in range(neighbours):
            scheduler.add(sequence(100, max_tokens=2))
        watched = new_sequence([ord("w")] * 150, Sampling(temperature=0, max_tokens=1), TOKENIZER, 1000)
        scheduler.add(watched)
        starts = []
        while not watched.finished:
            scheduler.step()
            starts += [s.start for s in model.calls[-1] if s.tokens[0] == ord("w")]
        return starts

    assert borders(0) == borders(5) == [0, 64, 128]


def test_a_cancelled_sequence_gives_its_place_and_pages_back_in_the_very_next_step() -> None:
    model = ScriptedModel(lambda seen: 66)
    scheduler = Scheduler(model, most=1)
    first, second = sequence(), sequence()
    scheduler.add(first)
    scheduler.add(second)
    scheduler.step()
    first.cancelled = True
    scheduler.step()
    assert (scheduler.running, first.held) == ([second], None)
    assert len(model.calls[-1]) == 1


def test_a_waiting_sequence_that_is_cancelled_is_never_computed() -> None:
    model = ScriptedModel(lambda seen: 66)
    scheduler = Scheduler(model, most=1)
    gone = sequence()
    gone.cancelled = True
    scheduler.add(gone)
    assert scheduler.step() == []
    assert (model.calls, scheduler.idle) == ([], True)


def test_the_end_of_the_context_ends_an_answer_with_length() -> None:
    scheduler = Scheduler(ScriptedModel(lambda seen: 66), most=1)
    long = sequence(6, context=10, max_tokens=500)
    scheduler.add(long)
    deltas = run_all(scheduler)[long]
    assert (deltas[-1].finish_reason, deltas[-1].output_tokens) == ("length", 4)
    assert "".join(delta.text for delta in deltas) == "BBBB"


class Poisoned(ScriptedModel):
    """Gives NaN to prompts that begin with an x."""

    def forward(self, segments: Sequence[Segment]) -> Logits:
        logits = super().forward(segments)
        logits[[segment.tokens[0] == ord("x") for segment in segments if segment.logits]] = np.nan
        return logits


def test_a_row_of_nan_ends_its_own_sequence_only() -> None:
    scheduler = Scheduler(Poisoned(spells("ok")), most=2)
    bad, good = new_sequence([ord("x")], Sampling(temperature=0), TOKENIZER, 50), sequence()
    scheduler.add(bad)
    scheduler.add(good)
    outcomes = {result.sequence: result.outcome for result in scheduler.step()}
    assert isinstance(outcomes[bad], BadLogits)
    assert isinstance(outcomes[good], Delta)
    assert scheduler.running == [good]


class Losing(ScriptedModel):
    """Can't compute an x, whoever else is in the step."""

    def forward(self, segments: Sequence[Segment]) -> Logits:
        logits = super().forward(segments)
        if any(ord("x") in segment.tokens for segment in segments):
            raise GenerationError("x is lost")
        return logits


def test_a_token_that_can_not_be_computed_ends_its_own_sequence_only() -> None:
    scheduler = Scheduler(Losing(lambda seen: ord("y") if seen[0] == ord("y") else ord("x")), most=3)
    bad, good = sequence(), new_sequence([ord("y")], Sampling(temperature=0, max_tokens=3), TOKENIZER, 50)
    scheduler.add(bad)
    scheduler.add(good)

    first, second = scheduler.step(), {result.sequence: result.outcome for result in scheduler.step()}

    assert [result.outcome.text for result in first if isinstance(result.outcome, Delta)] == ["x", "y"]
    assert isinstance(second[bad], GenerationError) and isinstance(second[good], Delta)
    assert scheduler.running == [good]


def test_a_guess_that_can_not_be_computed_harms_nobody() -> None:
    script = [*b"abcabcabd"]
    model = Losing(lambda seen: script[len(seen)] if len(seen) < len(script) else 257, invariant=True)
    scheduler = Scheduler(model, most=1, pace=Fixed(4))
    one = new_sequence([*b"abcab"], Sampling(temperature=0, max_tokens=4), TOKENIZER, 60)
    one.lookup = PromptLookup(History([*b"abxab"], one.history.generated))
    scheduler.add(one)

    deltas = run_all(scheduler)[one]

    assert "".join(delta.text for delta in deltas) == "cabd"


def answers_of(pace: Pace, scripts: list[list[int]], max_tokens: int) -> tuple[list[list[Delta]], Scheduler]:
    """What sequences say of which each has a script that begins with its own prompt."""

    def says(seen: list[int]) -> int:
        script = next(script for script in scripts if script[0] == seen[0])
        return script[len(seen)] if len(seen) < len(script) else 257

    scheduler = Scheduler(ScriptedModel(says, invariant=True), most=3, pace=pace)
    parts = [
        new_sequence(script[:4], Sampling(temperature=0, max_tokens=max_tokens), TOKENIZER, 60) for script in scripts
    ]
    for part in parts:
        scheduler.add(part)
    results = run_all(scheduler)
    return [results[part] for part in parts], scheduler


@given(
    st.lists(st.lists(st.integers(65, 67), min_size=4, max_size=50), min_size=1, max_size=3),
    st.integers(0, 7),
    st.integers(1, 60),
)
def test_guesses_change_nothing_but_the_number_of_steps(bodies: list[list[int]], guesses: int, max_tokens: int) -> None:
    scripts = [[97 + i, *body] for i, body in enumerate(bodies)]
    plain, slow = answers_of(Fixed(0), scripts, max_tokens)

    told, quick = answers_of(Fixed(guesses), scripts, max_tokens)

    for one, other in zip(told, plain, strict=True):
        assert "".join(delta.text for delta in one) == "".join(delta.text for delta in other)
        assert (one[-1].finish_reason, one[-1].output_tokens) == (other[-1].finish_reason, other[-1].output_tokens)
    assert quick.steps <= slow.steps and quick.tokens_out == slow.tokens_out
    assert quick.guessed_right <= quick.guessed


def test_what_repeats_comes_several_tokens_a_step() -> None:
    script = [97, *([65, 66, 67, 68] * 12)]

    told, scheduler = answers_of(Fixed(7), [script], 40)

    assert "".join(delta.text for delta in told[0]) == "".join(map(chr, script[4:44]))
    assert scheduler.steps < 15 and scheduler.guessed_right > 25


def test_nothing_is_guessed_where_company_changes_what_a_model_says() -> None:
    model = ScriptedModel(lambda seen: 66)
    scheduler = Scheduler(model, most=1, pace=Fixed(5))
    scheduler.add(sequence(6, max_tokens=10))
    run_all(scheduler)

    assert scheduler.guessed == 0 and max(len(call[0].tokens) for call in model.calls[1:]) == 1


def test_a_stop_string_inside_guesses_ends_there() -> None:
    script = [97, *([65, 66, 67, 68] * 12)]
    model = ScriptedModel(lambda seen: script[len(seen)], invariant=True)
    scheduler = Scheduler(model, most=1, pace=Fixed(7))
    part = new_sequence(script[:20], Sampling(temperature=0, stop=("CDA",)), TOKENIZER, 60)
    scheduler.add(part)
    told = run_all(scheduler)[part]

    assert "".join(delta.text for delta in told) == "DAB" and told[-1].finish_reason == "stop"
    assert told[-1].output_tokens == 6


def test_a_known_beginning_is_not_computed_again() -> None:
    model = ScriptedModel(lambda seen: 257, invariant=True)
    scheduler = Scheduler(model, most=1)
    for length in (100, 120):
        scheduler.add(sequence(length))
    run_all(scheduler)

    assert [call[0].start for call in model.calls] == [0, 64, 96]
    assert scheduler.pages.found_tokens == 96


def test_where_company_changes_rounding_a_beginning_is_taken_over_in_whole_chunks() -> None:
    model = ScriptedModel(lambda seen: 257)
    scheduler = Scheduler(model, most=1)
    for length in (100, 120):
        scheduler.add(sequence(length))
    run_all(scheduler)

    assert [call[0].start for call in model.calls] == [0, 64, 64]


def test_choices_of_one_prompt_compute_it_once() -> None:
    model = ScriptedModel(lambda seen: 257 if len(seen) > 210 else 66, invariant=True)
    scheduler = Scheduler(model, most=4, pace=Fixed(0))
    parts = [sequence(200) for _ in range(3)]
    for part in parts:
        scheduler.add(part)
    results = run_all(scheduler)

    assert all(results[part][-1].output_tokens == 12 for part in parts)
    prompt_tokens = sum(len(s.tokens) for call in model.calls for s in call if len(s.tokens) > 1)
    assert prompt_tokens == 200 + 2 * (200 - 192)


def test_when_pages_run_out_the_last_one_waits_and_says_the_same_in_the_end() -> None:
    def run(pages: int) -> tuple[list[str], Scheduler]:
        model = ScriptedModel(lambda seen: 257 if len(seen) >= 90 else 97 + seen[0] % 7, invariant=True)
        model.page_count = pages
        scheduler = Scheduler(model, most=3, kept_pages=0)
        parts = [new_sequence([65 + i] * 20, Sampling(temperature=0), TOKENIZER, 96) for i in range(3)]
        for part in parts:
            scheduler.add(part)
        results = run_all(scheduler)
        return ["".join(delta.text for delta in results[part]) for part in parts], scheduler

    plenty, _ = run(100)
    tight, scheduler = run(7)

    assert tight == plenty and all(len(said) == 70 for said in tight)
    assert scheduler.pages.available == 7


def test_all_pages_come_back() -> None:
    model = ScriptedModel(lambda seen: 66, invariant=True)
    scheduler = Scheduler(model, most=2, kept_pages=3)
    parts = [sequence(50, max_tokens=5), sequence(70, max_tokens=50), sequence(40, max_tokens=3)]
    for part in parts:
        scheduler.add(part)
    for _ in range(4):
        scheduler.step()
    parts[1].cancelled = True
    run_all(scheduler)

    assert scheduler.pages.available == model.page_count and scheduler.pages.idle <= 3
