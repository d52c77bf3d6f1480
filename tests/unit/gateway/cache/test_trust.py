"""What is known of answers by likeness: when a setting is closed, for whom, and what is used in its place."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from gateway.cache.semantic import Thresholds
from gateway.cache.topics import Topics
from gateway.cache.trust import FALSE_ALARMS, TrustBook, bounds_of, known_wrong
from gateway.ledger.acts import CACHE_TRUST, EVERYTHING, Change
from gateway.ledger.cache_evidence import Label, Place, Sums, Verdict
from gateway.ledger.faults import DatabaseUnavailable
from tests.unit.gateway.cache.sheet import Sheet

SETTINGS = [
    (0.1, Thresholds({"faq": 0.8, "code": 0.85, "*": None})),
    (0.05, Thresholds({"faq": 0.9, "*": None})),
    (0.03, Thresholds({"faq": 0.97, "*": None})),
]
TOPICS = Topics(lambda _vector, _text: "faq", lambda: SETTINGS, lambda: "c1")
OURS, THEIRS = Place("team:a", "faq", 0.05), Place("team:b", "faq", 0.05)


def tell(book: TrustBook, verdict: Verdict, count: int, place: Place = OURS) -> None:
    for number in range(count):
        book.checked(Label(f"{verdict}{number}", 0.0, place, verdict))


async def test_where_checks_find_too_many_wrong_ones_the_next_stricter_setting_is_used_then_none() -> None:
    book = TrustBook(TOPICS, Sheet())
    assert book.needed("team:a", "faq", "faq", 0.05) == 0.9
    tell(book, "different", 40)
    tell(book, "same", 60)
    await book.step()
    assert book.needed("team:a", "faq", "faq", 0.05) == 0.97
    assert book.place("team:a", "faq", 0.05) == replace(OURS, share=0.03)

    tell(book, "different", 40, replace(OURS, share=0.03))
    await book.step()

    assert book.needed("team:a", "faq", "faq", 0.05) is None
    assert book.place("team:a", "faq", 0.05) is None
    assert book.figures()["settings_closed"] == 2


async def test_what_one_tenant_finds_changes_nothing_for_another() -> None:
    book = TrustBook(TOPICS, Sheet())
    tell(book, "different", 100)

    await book.step()

    assert book.needed("team:b", "faq", "faq", 0.05) == 0.9
    assert book.needed("team:a", "faq", "faq", 0.05) == 0.97


async def test_of_two_topics_the_closed_one_counts() -> None:
    sheet = Sheet()
    book = TrustBook(TOPICS, sheet)
    sheet.sums[Place("team:a", "code", 0.1)] = Sums(closed_at=1.0)
    await book.load()

    assert book.needed("team:a", "faq", "faq", 0.1) == 0.8
    assert book.needed("team:a", "faq", "code", 0.1) is None is book.needed("team:a", "code", "faq", 0.1)
    assert book.needed("team:b", "faq", "code", 0.1) == 0.85


async def test_a_setting_that_keeps_its_share_is_hardly_ever_closed_however_often_one_looks() -> None:
    chance, closed = np.random.default_rng(5), 0
    for _ in range(40):
        sums = Sums(hits=4000)
        for wrong in chance.binomial(20, 0.05 * (1 - FALSE_ALARMS) + FALSE_ALARMS, 60).tolist():
            sums = replace(sums, different=sums.different + wrong, same=sums.same + 20 - wrong)
            if max(known_wrong(sums)) > 0.05:
                closed += 1
                break

    assert closed <= 3


@pytest.mark.parametrize("undecided", [0, 1000])
def test_what_is_undecided_speaks_for_nobody(undecided: int) -> None:
    bounds = bounds_of(Sums(hits=2000, same=90, different=10, undecided=undecided))

    low, high = bounds["checked_wrong"]
    assert low <= 0.1 < high if not undecided else low < 0.01 and high > 0.85


async def test_reports_count_against_all_that_was_given() -> None:
    few, many = TrustBook(TOPICS, Sheet()), TrustBook(TOPICS, Sheet())
    for book, given in ((few, 30), (many, 1500)):
        for number in range(given):
            book.gave(OURS, f"a{number}")
        for number in range(15):
            book.called_wrong("team:a", f"a{number}")
            book.called_wrong("team:b", f"a{number + 20}")
        await book.step()
        await book.step()

    assert few.needed("team:a", "faq", "faq", 0.05) == 0.97
    assert many.needed("team:a", "faq", "faq", 0.05) == 0.9


async def test_a_report_of_what_was_not_given_by_likeness_or_was_reported_already_counts_nothing() -> None:
    sheet = Sheet()
    book = TrustBook(TOPICS, sheet)
    book.gave(OURS, "a")

    for answer_id in ("a", "a", "never"):
        book.called_wrong("team:a", answer_id)
    await book.step()
    await book.step()

    assert sheet.sums == {OURS: Sums(hits=1, reported=1)}


async def test_reports_wait_until_all_workers_can_have_told_how_much_they_gave() -> None:
    sheet = Sheet()
    book = TrustBook(TOPICS, sheet)
    book.gave(OURS, "a")
    book.called_wrong("team:a", "a")

    await book.step()

    assert sheet.sums == {OURS: Sums(hits=1)}


async def test_nothing_is_lost_while_the_database_is_away() -> None:
    sheet = Sheet()
    book = TrustBook(TOPICS, sheet)
    book.gave(OURS, "a")
    tell(book, "same", 2)
    sheet.away = True
    with pytest.raises(DatabaseUnavailable):
        await book.step()
    tell(book, "undecided", 1)
    sheet.away = False

    await book.close()

    assert sheet.sums == {OURS: Sums(hits=1, same=2, undecided=1)}


@pytest.mark.parametrize("word", [CACHE_TRUST, EVERYTHING])
async def test_what_others_close_and_open_is_heard(word: str) -> None:
    sheet = Sheet()
    book = TrustBook(TOPICS, sheet)
    sheet.sums = {OURS: Sums(closed_at=1.0), THEIRS: Sums(closed_at=2.0)}
    await book.take_up([Change("key", "k")])
    assert book.needed("team:a", "faq", "faq", 0.05) == 0.9

    await book.take_up([Change(word)])
    assert book.needed("team:a", "faq", "faq", 0.05) == book.needed("team:b", "faq", "faq", 0.05) == 0.97
    sheet.sums = {}
    await book.take_up([Change(CACHE_TRUST)])

    assert book.needed("team:a", "faq", "faq", 0.05) == 0.9


def test_every_verdict_has_its_sum() -> None:
    assert {"same", "different", "undecided", "reported"} < {one.name for one in fields(Sums)}
