"""The rules of models and tags in memory."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.admission.rule_store import Subject
from gateway.admission.rulebook import MAX_SUMS, Rulebook
from gateway.admission.rules import NO_RULES, Budget, RateLimit, Rules, Scope
from gateway.ledger.acts import EVERYTHING, Change


def budget(scope: Scope, scope_id: str, limit: int = 1) -> Rules:
    """Rules of one budget."""
    return Rules((Budget(f"b-{scope_id}", scope, scope_id, limit),))


class Source:
    """Rules in memory, which may be away."""

    def __init__(self) -> None:
        limited = Rules(limits=(RateLimit("l", Scope.TAG, "web", 5),))
        self.rules: dict[Subject, Rules] = {
            (Scope.MODEL, "gpt"): budget(Scope.MODEL, "gpt"),
            (Scope.TAG, "web"): budget(Scope.TAG, "web") + limited,
            (Scope.TAG, "beta"): budget(Scope.TAG, "beta"),
        }
        self.asked = 0
        self.away = False

    async def of_scopes(self, *scopes: Scope) -> Mapping[Subject, Rules]:
        self.asked += 1
        if self.away:
            raise ConnectionError("away")
        return {subject: Rules(one.budgets, one.limits) for subject, one in self.rules.items() if subject[0] in scopes}


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def book(source: Source) -> Rulebook:
    book = Rulebook(source)
    await book.refresh()
    return book


def test_the_rules_of_a_model_and_its_tags_are_summed(book: Rulebook) -> None:
    assert {one.id for one in book.rules_of("gpt", ("web", "unknown")).budgets} == {"b-gpt", "b-web"}
    assert [one.id for one in book.rules_of("other", ["web"]).limits] == ["l"]
    assert book.rules_of("other", ("web", "web")) == book.rules_of("other", ("web",))


def test_where_nothing_is_set_there_are_no_rules(book: Rulebook, source: Source) -> None:
    assert book.rules_of("other", ("unknown",)) is NO_RULES
    assert Rulebook(source).rules_of("gpt", ("web",)) is NO_RULES and not Rulebook(source).loaded


async def test_the_same_arguments_give_the_same_object_while_nothing_changed(book: Rulebook, source: Source) -> None:
    first = [book.rules_of("gpt", tags) for tags in ((), ("web",), ("web", "beta"))]

    await book.take_up([Change(Scope.TAG, "web"), Change(EVERYTHING)])
    again = [book.rules_of("gpt", tags) for tags in (["x"], ("web", "y"), ("beta", "web"))]

    assert source.asked == 2
    assert [one is other for one, other in zip(first, again, strict=True)] == [True] * 3


async def test_a_change_counts_and_leaves_the_others_as_they_are(book: Rulebook, source: Source) -> None:
    before = book.rules_of("gpt", ()), book.rules_of("other", ("web",))
    source.rules[Scope.TAG, "web"] = budget(Scope.TAG, "web", 2)

    await book.take_up([Change(Scope.TAG, "web")])

    assert book.rules_of("gpt", ()) is before[0]
    assert book.rules_of("other", ("web",)).budgets[0].limit_nanousd == 2


async def test_changes_of_tenants_are_not_asked_about_and_an_outage_changes_nothing(
    book: Rulebook, source: Source
) -> None:
    source.away = True

    await book.take_up([Change(Scope.KEY, "k"), Change("secret", "s")])
    with pytest.raises(OSError, match="away"):
        await book.take_up([Change(Scope.MODEL, "gpt")])

    assert book.rules_of("gpt", ()).budgets and book.loaded


def test_strangers_can_not_fill_the_memory_with_tags(book: Rulebook, source: Source) -> None:
    for number in range(MAX_SUMS * 2):
        book.rules_of(f"model {number}", ("web", f"tag {number}"))

    assert len(book._sums) == 1
