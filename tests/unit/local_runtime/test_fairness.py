"""Whose turn it is when more is asked than can be computed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from local_runtime.base import Sampling
from local_runtime.fairness import WRITTEN_COUNTS, FairQueue
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import Sequence, new_sequence
from tests.unit.local_runtime.scripted import ScriptedModel
from tests.unit.local_runtime.test_scheduler import TOKENIZER, run_all


def asked(circle: str, priority: int = 0, *, prompt: int = 1, tokens: int = 4) -> Sequence:
    sampling = Sampling(temperature=0, max_tokens=tokens)
    return new_sequence([65] * prompt, sampling, TOKENIZER, 400, circle, priority)


def endless(most: int, pages: int | None = None) -> Scheduler:
    model = ScriptedModel(lambda seen: 66)
    if pages is not None:
        model.page_count = pages
    return Scheduler(model, most)


def order_of_ends(scheduler: Scheduler, sequences: list[Sequence]) -> list[int]:
    ends: list[int] = []
    while not scheduler.idle:
        ends += [sequences.index(result.sequence) for result in scheduler.step() if result.sequence.finished]
    return ends


def test_who_asks_much_at_once_delays_others_by_one_answer() -> None:
    scheduler = endless(1)
    many, one = [asked("many") for _ in range(5)], asked("one")
    for sequence in [*many, one]:
        scheduler.add(sequence)

    ends = order_of_ends(scheduler, [*many, one])

    assert ends.index(5) == 1
    assert [each for each in ends if each != 5] == [0, 1, 2, 3, 4]


def test_long_answers_count_for_more_than_short_ones() -> None:
    scheduler = endless(1)
    long, short = [asked("long", tokens=20) for _ in range(3)], [asked("short", tokens=2) for _ in range(8)]
    for sequence in [*long, *short]:
        scheduler.add(sequence)

    ends = order_of_ends(scheduler, [*long, *short])

    assert ends[0] == 0
    assert ends.index(1) > 7


def test_who_was_away_has_saved_nothing_up() -> None:
    queue = FairQueue()
    busy = asked("busy")
    queue.add(busy)
    queue.charge(busy, 1000, 0)
    queue.take(busy)
    late, again = asked("late"), asked("busy")
    queue.add(late)
    queue.add(again)

    queue.charge(late, 1, 0)

    assert queue.first(lambda _: True) is again


def test_written_tokens_count_more_than_read_ones() -> None:
    queue = FairQueue()
    reader, writer = asked("reader"), asked("writer")
    queue.add(reader)
    queue.add(writer)
    queue.charge(reader, WRITTEN_COUNTS * 10 - 1, 0)
    queue.charge(writer, 0, 10)

    assert queue.first(lambda _: True) is reader


def test_the_urgent_comes_first_and_takes_a_place_that_is_taken() -> None:
    scheduler = endless(1)
    usual, urgent = asked("a", tokens=9), asked("a", 1)
    scheduler.add(usual)
    scheduler.step()
    scheduler.add(urgent)

    results = run_all(scheduler)

    assert [results[one][-1].output_tokens for one in (usual, urgent)] == [9, 4]
    assert results[usual][-1].text.endswith("B")
    assert list(results) == [urgent, usual]


def test_the_less_urgent_gives_its_pages_up() -> None:
    scheduler = endless(4, pages=3)
    usual, urgent = asked("a", prompt=30, tokens=10), asked("b", 1, prompt=30, tokens=3)
    scheduler.add(usual)
    scheduler.step()
    scheduler.add(urgent)

    assert order_of_ends(scheduler, [usual, urgent]) == [1, 0]


def test_equals_take_nothing_from_each_other() -> None:
    scheduler = endless(1)
    first, second = asked("a"), asked("b")
    scheduler.add(first)
    scheduler.step()
    scheduler.add(second)
    scheduler.step()

    assert scheduler.running == [first]


def test_a_background_answer_goes_on_when_nobody_else_wants_its_place() -> None:
    scheduler = endless(1)
    background = asked("a", -1)
    scheduler.add(background)
    scheduler.add(asked("a", -1))

    assert run_all(scheduler)[background][-1].output_tokens == 4


def test_circles_that_were_here_long_ago_are_forgotten() -> None:
    queue = FairQueue()
    for i in range(3000):
        sequence = asked(f"circle {i}")
        queue.add(sequence)
        queue.take(sequence)
        queue.left(sequence)

    assert len(queue._had) <= 1025


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1), st.integers(1, 60)), max_size=12))
def test_everybody_gets_an_answer_whoever_asks_what(wishes: list[tuple[str, int, int]]) -> None:
    scheduler = endless(2, pages=6)
    sequences = [asked(circle, priority, prompt=prompt) for circle, priority, prompt in wishes]
    for sequence in sequences:
        scheduler.add(sequence)

    results = run_all(scheduler)

    assert all(results[sequence][-1].output_tokens == 4 for sequence in sequences)
    assert not scheduler.waiting._here
    assert scheduler.pages.available == 6
