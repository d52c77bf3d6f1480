"""Rules as scripts read them, and their answers as the gateway reads them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.gauges import Granted, Kind, Quota, Refused
from gateway.admission.redis_rules import SpelledRules, buckets_of, granted, refused
from gateway.admission.redis_scripts import Scripts, script_text
from gateway.admission.rules import Budget, Period, RateLimit, Rules, Scope, Window, WindowKind
from gateway.admission.windows import bucket_of, first_bucket

WINDOWS = [
    Window(),
    *(Window(WindowKind.CALENDAR, period) for period in Period),
    *(Window(WindowKind.ROLLING, seconds=seconds) for seconds in (1, 59, 3_600, 100_000)),
]
BUDGETS = tuple(Budget(f"b{number}", Scope.KEY, "k", 10, window) for number, window in enumerate(WINDOWS))
LIMITS = (RateLimit("l1", Scope.KEY, "k", 60, None, 3), RateLimit("l2", Scope.TEAM, "t", 90, 1_000, None))
RULES = Rules(BUDGETS, LIMITS)


@given(moments=st.lists(st.integers(0, 4_102_444_800), min_size=1, max_size=5))
def test_buckets_are_those_of_the_windows(moments: list[int]) -> None:
    spelled = SpelledRules(RULES)

    for moment in moments:
        expected = [(budget.id, bucket_of(budget.window, moment)) for budget in BUDGETS]
        assert list(spelled.buckets(moment)) == expected
        assert buckets_of(spelled.spelled, moment) == expected


@given(moment=st.integers(0, 4_102_444_800))
def test_of_rolling_windows_alone_old_buckets_may_be_forgotten(moment: int) -> None:
    rolling = [budget for budget in BUDGETS if budget.window.kind is WindowKind.ROLLING]

    expected = [(budget.id, first_bucket(budget.window, moment)) for budget in rolling]

    assert list(SpelledRules(RULES).forgettable(moment)) == expected


def test_a_limit_is_spelled_in_two_parts_that_a_double_holds() -> None:
    spelled = SpelledRules(Rules((Budget("b", Scope.KEY, "k", 2**62 + 1),)))

    ((row,), _) = msgspec.msgpack.decode(spelled.spelled)

    assert row[1] * 10**9 + row[2] == 2**62 + 1
    assert max(row[1:3]) < 2**53


def test_what_is_unbounded_is_spelled_so() -> None:
    _, limits = msgspec.msgpack.decode(SpelledRules(RULES).spelled)

    assert limits == [["l1", 60, -1, 3], ["l2", 90, 1_000, -1]]


def test_a_grant_names_the_quotas_of_the_tightest_limits_and_soft_budgets() -> None:
    answer = granted([1, 1, 5, 55_000_000, 2, 900, 6_000_000, 2, 3], RULES)

    assert answer == Granted(Quota(60, 5, 55.0), Quota(1_000, 900, 6.0), ("b1", "b2"))
    assert granted([1, 0, 0, 0, 0, 0, 0], Rules()) == Granted()


def test_a_refusal_by_a_budget_says_what_is_free_and_when_its_window_ends() -> None:
    total = refused([0, 1, 1, -1, 7, -1, 0, -1, 0, 1_000], RULES)
    hourly = refused([0, 1, 2, -1, 7, -1, 0, -1, 0, 1_000], RULES)

    assert total == Refused(Kind.BUDGET, "b0", 7)
    assert hourly == Refused(Kind.BUDGET, "b1", 7, 2_600.0)


@pytest.mark.parametrize(("code", "kind"), [(2, Kind.REQUESTS), (3, Kind.TOKENS), (4, Kind.CONCURRENT)])
def test_a_refusal_by_a_limit_says_how_long_to_wait(code: int, kind: Kind) -> None:
    answer = refused([0, code, 2, 1_500_000, 0, 0, 60_000_000, 10, 59_000_000, 1_000], RULES)
    never = refused([0, code, 1, -1, 0, 3, 1_000_000, -1, 0, 1_000], RULES)

    assert answer == Refused(kind, "l2", 0, 1.5, Quota(90, 0, 60.0), Quota(1_000, 10, 59.0))
    assert never == Refused(kind, "l1", 0, None, Quota(60, 3, 1.0), None)


def test_every_script_is_there_and_begins_with_what_all_share() -> None:
    for name in Scripts.__dataclass_fields__:
        assert script_text(name).startswith(script_text("base").partition("\n")[0])
