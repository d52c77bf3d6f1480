"""How much a stream has said so far, from frames that are kept raw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.meters import spoken
from gateway.dispatch.meters.chat import ChatMeter
from gateway.dispatch.meters.spoken import KEPT_BYTES, Spoken
from policies.catalogue import ModelCard

ENVELOPE = b"x" * 200  # what every chunk repeats
CARD = ModelCard(id="m", context_tokens=10, price_in_usd_per_mtok=2, price_out_usd_per_mtok=8)
PROSE = (
    "The committee will meet on Thursday to discuss the budget for next year and to elect a new chair. ",
    "Die Sitzung beginnt um neun Uhr, und alle Mitglieder werden gebeten, pünktlich zu erscheinen. ",
    "for index in range(10):\n    print(index, values[index] * 2)\n",
)


def frame(*texts: str) -> bytes:
    return b"".join(b"data: %b|%b\n\n" % (ENVELOPE, text.encode()) for text in texts)


def text_of(payload: bytes) -> str:
    return payload.partition(b"|")[2].decode()


def heard(frames: list[bytes]) -> Spoken:
    found = Spoken(text_of)
    for one in frames:
        found.hear(one)
    return found


@pytest.mark.parametrize("text", PROSE)
@pytest.mark.parametrize("size", [12, 40, 400])
def test_the_upper_count_lies_above_the_estimate_and_not_far(text: str, size: int) -> None:
    whole = text * 40
    found = heard([frame(whole[start : start + size]) for start in range(0, len(whole), size)])

    assert found.estimate() <= found.upper(exact=True) <= 1.3 * found.estimate() + 1


@given(st.lists(st.lists(st.text(alphabet="ab 1\u4f60", max_size=30), min_size=1, max_size=4), max_size=40))
def test_asking_on_the_way_changes_nothing_at_the_end(said: list[list[str]]) -> None:
    asked, silent = Spoken(text_of), Spoken(text_of)
    for texts in said:
        asked.hear(frame(*texts))
        silent.hear(frame(*texts))
        assert asked.upper() >= 0

    # What is drawn at once is weighed as one text: borders of words between the pieces may differ.
    assert asked.upper(exact=True) >= sum(bool(text) for texts in said for text in texts)
    assert abs(asked.estimate() - silent.estimate()) <= 3 + 0.5 * silent.estimate()


def test_every_event_that_says_something_has_at_least_one_token() -> None:
    found = heard([frame("a", "", "b"), frame("c"), frame("")])

    assert found.upper() >= 3


def test_single_tokens_are_counted_exactly_and_bounded_closely() -> None:
    found = heard([frame(" word")] * 200)

    assert (found.estimate(), found.upper(exact=True)) == (200, 211)


def test_a_sudden_large_frame_is_seen_at_once() -> None:
    found = Spoken(text_of)
    for _ in range(20):
        found.hear(frame(" word"))
        found.upper()

    found.hear(frame("a long passage of quite usual words " * 100))

    assert found.upper() > 700


def test_frames_like_those_before_are_not_missed_in_between() -> None:
    found, counts = Spoken(text_of), []
    for _ in range(100):
        found.hear(frame(" word"))
        counts.append(found.upper())

    assert all(count >= place + 1 for place, count in enumerate(counts))


def test_what_is_kept_is_bounded_and_nothing_is_forgotten() -> None:
    drawn: list[int] = []

    def noting(payload: bytes) -> str:
        drawn.append(len(payload))
        return text_of(payload)

    found = Spoken(noting)
    frames = 3 * KEPT_BYTES // len(frame(" word"))
    for _ in range(frames):
        found.hear(frame(" word"))

    assert len(drawn) > frames / 2  # drawn before anybody asked
    assert found.estimate() == frames


def test_a_tokenizer_that_is_known_to_count_otherwise_scales_the_weight() -> None:
    usual, finer = heard([frame(PROSE[0] * 5)]), heard([frame(PROSE[0] * 5)])
    finer.scale = 1.5

    assert finer.estimate() == pytest.approx(1.5 * usual.estimate(), abs=1)


def test_the_running_cost_is_the_prompts_and_the_upper_counts() -> None:
    meter = ChatMeter(CARD, 100, wants_usage=False)
    before = meter.running_cost_nanousd

    meter.stream(b'data: {"choices":[{"index":0,"delta":{"content":"a few words more than none"}}]}\n\n')

    assert before == 200_000
    assert before + 6 * 8000 <= meter.running_cost_nanousd <= before + 9 * 8000
    assert spoken.MARGIN > 1
