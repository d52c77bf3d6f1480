"""Output length and latency before anything was learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routers.prior import output_prior, prior_forecast
from tests.unit.routers.candidates import candidate, query

CATEGORIES = st.sampled_from(["code", "math", "chitchat", "general", "anything"])


@given(CATEGORIES, st.integers(0, 10**6), st.none() | st.integers(1, 10**6), st.booleans())
def test_the_median_never_exceeds_the_upper_quantile_nor_the_callers_cap(
    category: str, tokens: int, cap: int | None, tools: bool
) -> None:
    prior = output_prior(query(category=category, tokens=tokens, max_output_tokens=cap, tools=tools))
    assert 1 <= prior.median <= prior.high
    assert cap is None or prior.high <= cap


def test_code_is_expected_longer_than_small_talk() -> None:
    assert output_prior(query(category="code")).median > 3 * output_prior(query(category="chitchat")).median


def test_a_longer_prompt_is_expected_to_get_a_slightly_longer_answer() -> None:
    short, long = output_prior(query(tokens=10)).median, output_prior(query(tokens=10_000)).median
    assert short < long < 3 * short


def test_a_request_with_tools_is_expected_to_be_answered_by_a_short_call() -> None:
    assert output_prior(query(tools=True)).median < output_prior(query()).median


def test_a_model_is_not_expected_to_write_more_than_it_can() -> None:
    told = prior_forecast(candidate("m", max_output=50), 0.5, 0.2, output_prior(query()))
    assert (told.output_tokens, told.output_tokens_high) == (50, 50)


@pytest.mark.parametrize(("quality", "low", "high"), [(0.5, 0.3, 0.7), (0.1, 0.0, 0.3), (0.95, 0.75, 1.0)])
def test_the_interval_stays_within_bounds(quality: float, low: float, high: float) -> None:
    told = prior_forecast(candidate("m"), quality, 0.2, output_prior(query()))
    assert (told.quality_low, told.quality_high) == pytest.approx((low, high))


def test_latency_follows_the_endpoint_and_half_of_it_the_output() -> None:
    usual = prior_forecast(candidate("m", latency_ms=1000), 0.5, 0.1, output_prior(query()))
    slow = prior_forecast(candidate("m", latency_ms=3000), 0.5, 0.1, output_prior(query()))
    brief = prior_forecast(candidate("m", latency_ms=1000), 0.5, 0.1, output_prior(query(max_output_tokens=1)))
    assert usual.latency_ms == pytest.approx(1000)
    assert slow.latency_ms == pytest.approx(3000)
    assert 500 < brief.latency_ms < 510
