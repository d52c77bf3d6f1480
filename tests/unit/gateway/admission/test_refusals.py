"""What callers are told: durations, dollars, windows, and messages that say what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.gauges import Kind, Refused
from gateway.admission.refusals import budget_exceeded, duration, price_unknown, rate_limited, usd, warning_header
from gateway.admission.rules import Budget, Period, Scope, Window, WindowKind
from tests.unit.gateway.admission.fake_gauges import budget, limit

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.02, "20ms"),
        (0.0201, "21ms"),
        (0.9995, "1s"),
        (6, "6s"),
        (8.64, "8.64s"),
        (59.999, "1m0s"),
        (60, "1m0s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_duration_is_never_shorter_than_the_wait(seconds: float) -> None:
    told = sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[hms])", duration(seconds)))

    assert seconds - 1e-6 <= told <= seconds + (0.0101 if seconds < 59 else 1.01)


@given(st.integers(-(10**15), 10**15))
def test_dollars_are_exact(nanousd: int) -> None:
    text = usd(nanousd)

    assert round(float(text) * 1e9) == nanousd and re.fullmatch(r"-?\d+\.\d{2}(\d*[1-9])?", text)


@pytest.mark.parametrize(
    ("window", "retry_s", "words"),
    [
        (Window(WindowKind.CALENDAR, Period.MONTH), 12 * 3600.0, "monthly budget .* resets at 2026-12-01T00:00:00Z"),
        (Window(WindowKind.ROLLING, seconds=3600), 60.0, "rolling 3600 s budget .* little by little, .*T12:01:00Z"),
        (Window(), None, "total budget .* does not reset by itself"),
        (Window(WindowKind.CALENDAR, Period.DAY), None, "daily budget .* more than the whole budget"),
    ],
)
def test_a_budget_says_when_it_helps_to_come_back(window: Window, retry_s: float | None, words: str) -> None:
    bound = Budget("b1", Scope.TEAM, "growth", 5_000_000_000, window)
    error = budget_exceeded(bound, Refused(Kind.BUDGET, "b1", 20_000_000, retry_s), 50_000_000, NOON)

    assert re.search(words, error.message) is not None
    assert "team 'growth'" in error.message and "5.00 USD 4.98 USD" in error.message


def test_a_call_above_the_whole_limit_is_told_so() -> None:
    error = rate_limited(limit(), Refused(Kind.TOKENS, "l"), 7000)

    assert "more than the limit ever allows" in error.message and error.retry_after_s is None


def test_a_refusal_by_a_rule_that_nobody_knows_is_still_a_refusal() -> None:
    assert rate_limited(None, Refused(Kind.TOKENS, "?"), 1).http_status == 429
    assert budget_exceeded(None, Refused(Kind.BUDGET, "?"), 1, NOON).http_status == 402


def test_models_without_price_are_named_once() -> None:
    message = price_unknown(["a", "a", "b", "c", "d", "e"]).message

    assert "'a', 'b', 'c', 'd' and others" in message


def test_a_warning_is_fit_for_a_header_whatever_the_tag() -> None:
    strange = Budget("b", Scope.TAG, "naïve\r\nx: y", 1_000_000_000, hard=False)
    _, value = warning_header([budget(hard=False), strange])

    assert b"\r" not in value and b"\n" not in value and value.isascii()
