"""What budgets and limits may say."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rule_checks import (
    MAX_USD,
    NANO,
    check_budget,
    check_limit,
    check_subject,
    to_nanousd,
    to_usd,
    window_of,
)
from gateway.admission.rules import Budget, Period, RateLimit, Scope, Window, WindowKind
from gateway.admission.terms import Known, RefusedField

KNOWN = Known((), {"vendor/model"})
BUDGET = Budget("b", Scope.TEAM, "web", 1)
LIMIT = RateLimit("l", Scope.TEAM, "web", 1, 2, 3)


@given(st.integers(0, MAX_USD * NANO))
def test_dollars_with_nine_places_are_kept_exactly(nanousd: int) -> None:
    assert to_nanousd(Decimal(nanousd) / NANO) == nanousd
    assert abs(to_usd(nanousd) * NANO - nanousd) <= 1


@pytest.mark.parametrize("usd", ["-1", "-0.000000001", "NaN", "Infinity", "9000000.000000001", "1e40", "0.0000000001"])
def test_an_amount_that_no_budget_has_is_refused(usd: str) -> None:
    with pytest.raises(RefusedField) as refused:
        to_nanousd(Decimal(usd))

    assert refused.value.field == "limit_usd"


@pytest.mark.parametrize(
    ("parts", "window"),
    [
        (("total", None, None), Window()),
        (("calendar", "month", None), Window(WindowKind.CALENDAR, Period.MONTH)),
        (("rolling", None, 3600), Window(WindowKind.ROLLING, None, 3600)),
    ],
)
def test_a_window_is_made_of_its_parts(parts: tuple[str, str | None, int | None], window: Window) -> None:
    assert window_of(*parts) == window


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (("calendar", None, None), "period"),
        (("calendar", "day", 60), "window_s"),
        (("rolling", None, None), "window_s"),
        (("rolling", "day", 60), "period"),
        (("rolling", None, 59), "window_s"),
        (("rolling", None, 366 * 86_400 + 1), "window_s"),
        (("total", "day", None), "period"),
        (("total", None, 60), "window_s"),
    ],
)
def test_a_window_whose_parts_do_not_go_together_is_refused(
    parts: tuple[str, str | None, int | None], field: str
) -> None:
    with pytest.raises(RefusedField) as refused:
        window_of(*parts)

    assert refused.value.field == field


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "https://", "//x", "https://x y/", "https://x:99999/", "https://[::1/", "x" * 9, "https://ü/"]
)
def test_a_webhook_must_be_a_url(url: str) -> None:
    check_budget(replace(BUDGET, webhook_url="https://hooks.example.com/T0/x?y=z"))
    with pytest.raises(RefusedField, match="webhook_url"):
        check_budget(replace(BUDGET, webhook_url=url))


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrent_requests"])
@pytest.mark.parametrize("bound", [0, -1, 10**13])
def test_a_limit_that_bounds_with_nonsense_is_refused(name: str, bound: Any) -> None:
    with pytest.raises(RefusedField) as refused:
        check_limit(replace(LIMIT, **{name: bound}))

    assert refused.value.field == name


def test_a_limit_that_bounds_nothing_is_refused() -> None:
    with pytest.raises(RefusedField, match="at least one"):
        check_limit(RateLimit("l", Scope.TEAM, "web"))
    check_limit(RateLimit("l", Scope.TEAM, "web", concurrent_requests=1))


@pytest.mark.parametrize(
    ("scope", "subject"),
    [(Scope.MODEL, "gone"), (Scope.TAG, "a,b"), (Scope.TAG, ""), (Scope.TEAM, "\0"), (Scope.KEY, "")],
)
def test_a_subject_that_can_not_exist_is_refused(scope: Scope, subject: str) -> None:
    check_subject(Scope.MODEL, "vendor/model", KNOWN)
    check_subject(Scope.TAG, "web", KNOWN)
    with pytest.raises(RefusedField) as refused:
        check_subject(scope, subject, KNOWN)

    assert refused.value.field == "scope_id"
