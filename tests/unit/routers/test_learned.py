"""From a row of predictions to forecasts of candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from routers.learned import forecasts_of
from routers.predictions import Predictions
from tests.unit.routers.candidates import candidate, query

ANY = st.floats(width=32)


def predictions(*values: float) -> Predictions:
    row = np.array([values[:5]], dtype=np.float32)
    usual = np.array([values[5]], dtype=np.float32)
    quality, low, high, tokens, tokens_high = (row[:, [place]] for place in range(5))
    unknown, trust = np.full((1, 1), np.nan, np.float32), np.ones(1, np.float32)
    return Predictions(quality, low, high, tokens, tokens_high, unknown, usual, tokens[0], trust)


def test_forecasts_say_what_was_predicted() -> None:
    pool = [candidate("m", latency_ms=100.0)]

    (told,) = forecasts_of(query(), pool, predictions(0.6, 0.5, 0.8, 120.4, 300.0, 0.55))

    assert (told.endpoint_id, told.output_tokens, told.output_tokens_high) == ("m-endpoint", 120, 300)
    assert np.allclose(
        [told.quality, told.quality_low, told.quality_high, told.usual_quality or 0], [0.6, 0.5, 0.8, 0.55]
    )
    assert told.latency_ms == 100.0 * (0.5 + 0.5 * 120 / 200)


def test_the_caller_s_cap_and_the_model_s_limit_bound_the_tokens() -> None:
    pool, found = [candidate("m", max_output=90)], predictions(0.5, 0.5, 0.5, 120.0, 300.0, 0.5)

    (limited,) = forecasts_of(query(), pool, found)
    (capped,) = forecasts_of(query(max_output_tokens=40), pool, found)

    assert (limited.output_tokens, limited.output_tokens_high) == (90, 90)
    assert (capped.output_tokens, capped.usual_output_tokens) == (40, 40)


@given(st.lists(ANY, min_size=6, max_size=6))
def test_whatever_was_predicted_forecasts_are_sound(values: list[float]) -> None:
    (told,) = forecasts_of(query(), [candidate("m")], predictions(*values))

    assert 0 <= told.quality_low <= told.quality <= told.quality_high <= 1
    assert 1 <= told.output_tokens <= told.output_tokens_high <= 100_000
    assert told.usual_quality is not None and 0 <= told.usual_quality <= 1


def test_candidates_keep_their_order() -> None:
    pool = [candidate("b"), candidate("a"), candidate("b", "b-2")]
    row = np.array([[0.1, 0.2, 0.1]], dtype=np.float32)
    found = replace(
        predictions(0, 0, 0, 1, 1, 0),
        quality=row,
        low=row,
        high=row,
        tokens=row,
        tokens_high=row,
        usual=row[0],
        usual_tokens=row[0],
    )

    assert [told.endpoint_id for told in forecasts_of(query(), pool, found)] == ["b-endpoint", "a-endpoint", "b-2"]


def test_means_are_told_beside_medians_and_bounded_by_the_same_limits() -> None:
    pool = [candidate("m", max_output=150)]
    found = replace(predictions(0.5, 0.5, 0.5, 100.0, 120.0, 0.5), mean_ratio=np.array([1.3], dtype=np.float32))

    (free,) = forecasts_of(query(), pool, found)
    (capped,) = forecasts_of(query(max_output_tokens=110), pool, found)

    assert (free.output_tokens, free.output_tokens_mean, free.usual_output_tokens_mean) == (100, 130, 130)
    assert (capped.output_tokens, capped.expected_output_tokens, capped.output_tokens_high) == (100, 110, 110)
