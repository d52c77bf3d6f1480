"""What checks of served answers leave of a configuration's settings: as they were, stricter, or nothing; never more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.cache.recertify import recertified, tightened
from gateway.cache.semantic import Thresholds
from gateway.ledger.cache_evidence import CheckedPair

SETTINGS = ((0.1, Thresholds({"faq": 0.9, "code": None, "*": None})), (0.05, Thresholds({"faq": 0.96, "*": None})))


def pairs(count: int, score: float, *, wrong: int = 0, share: float = 0.1, questions: int = 40) -> list[CheckedPair]:
    """Pairs of so many cached questions; wrong ones are of questions of their own."""
    return [
        CheckedPair(f"{score} {share} {place}?", f"known {place % questions}?", True, "faq", "c", share, score)
        if place >= wrong
        else CheckedPair(f"{score} {share} {place}?", f"wrong {place}?", False, "faq", "c", share, score)
        for place in range(count)
    ]


def left(given_pairs: Sequence[CheckedPair], least: int = 30) -> dict[float, float | None]:
    """What each share's threshold for the topic is then."""
    shown = recertified(SETTINGS, given_pairs, "c", least)
    return {share: thresholds.of("faq", "faq") for share, thresholds in tightened(SETTINGS, shown)}


def test_settings_that_their_checks_bear_out_are_kept() -> None:
    assert left([*pairs(100, 0.905), *pairs(200, 0.97), *pairs(100, 0.965, share=0.05)]) == {0.1: 0.9, 0.05: 0.96}


def test_a_setting_that_was_too_often_wrong_becomes_stricter() -> None:
    assert left([*pairs(60, 0.905, wrong=20), *pairs(300, 0.945)])[0.1] == 0.94


def test_a_setting_that_is_wrong_throughout_is_closed() -> None:
    assert left([*pairs(100, 0.91, wrong=20), *pairs(300, 0.99, wrong=60)]) == {0.1: None, 0.05: None}


def test_what_was_given_by_a_stricter_setting_vouches_for_no_looser_one() -> None:
    assert left(pairs(400, 0.97, share=0.05)) == {0.1: 0.97, 0.05: 0.97}


def test_few_checks_of_a_looser_setting_are_not_outweighed_by_many_of_a_stricter_one() -> None:
    assert left([*pairs(5, 0.905, wrong=2), *pairs(400, 0.97, share=0.05)])[0.1] == 0.97


def test_of_thresholds_between_which_nothing_was_seen_the_stricter_is_kept() -> None:
    assert left(pairs(300, 0.93))[0.1] == 0.93


def test_answers_to_few_cached_questions_certify_nothing() -> None:
    with pytest.raises(ValueError, match="of 5 cached questions, and needs 30"):
        left(pairs(400, 0.91, questions=5))


def test_one_cached_question_that_is_taken_for_others_counts_as_one_mistake_many_times() -> None:
    clean = pairs(400, 0.97)
    apart = [replace(pair, cached=f"{place}", same=False) for place, pair in enumerate(clean[:10])]
    alike = [replace(pair, cached="one", same=False) for pair in clean[:10]]

    assert left([*clean, *apart])[0.1] == 0.97 and left([*clean, *alike])[0.1] is None


@pytest.mark.parametrize(
    "strange",
    [{"calibration": "d"}, {"calibration": None}, {"share": None}, {"share": 0.2}, {"score": None}, {"topic": "code"}],
    ids=str,
)
def test_checks_of_other_configurations_settings_and_topics_do_not_count(strange: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"400 in all: faq for 0\.1 has 0 and needs 56"):
        left([replace(pair, **strange) for pair in pairs(400, 0.97)])  # type: ignore[arg-type]


def test_too_few_are_told_with_how_many_are_needed() -> None:
    with pytest.raises(ValueError, match=r"40 in all: faq for 0\.1 has 40 and needs 56"):
        left(pairs(40, 0.93))


def test_without_an_open_setting_there_is_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="no answers by likeness"):
        recertified(((0.1, Thresholds({"faq": None, "*": None})),), pairs(400, 0.97), "c", 30)


@given(
    some.lists(
        some.tuples(some.integers(1, 200), some.floats(0.9, 1), some.integers(0, 30), some.sampled_from((0.1, 0.05))),
        max_size=4,
    )
)
def test_no_setting_ever_becomes_looser_than_it_was(told: list[tuple[int, float, int, float]]) -> None:
    logged = [pair for count, score, wrong, share in told for pair in pairs(count, score, wrong=wrong, share=share)]

    found = left([*logged, *pairs(100, 0.99)])

    assert all(at is None or at >= was for at, was in zip((found[0.1], found[0.05]), (0.9, 0.96), strict=True))
