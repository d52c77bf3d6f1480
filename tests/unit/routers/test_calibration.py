"""Recalibration tables: what they do to forecasts, and that an artifact gives them back."""

from __future__ import annotations

import numpy as np
import pytest

from routers.artifact import ArtifactError
from routers.calibration import LEVELS, Calibration, Gate, QualityMap, TokenBounds
from routers.predictions import Predictions

KNOTS = np.linspace(0, 1, 5, dtype=np.float32)
MAP = QualityMap(("a", "b"), np.array([KNOTS, KNOTS / 2, KNOTS**2], np.float32), np.full((3, 5), 0.1, np.float32))
OFFSETS = np.log(np.array([[0.5] * 3 + [1.0] + [2.0] * 3, [1.0] * 7, [0.1] * 3 + [1.0] + [4.0] * 3], np.float32))
TOKENS = TokenBounds(("a", "b"), OFFSETS)
EYE = np.eye(4, dtype=np.float32)
GATE = Gate(EYE[:2], 1, 0.4, 0.8)


def predictions(quality: float, trust: float = 1.0, queries: int = 1, usual: float = 0.5) -> Predictions:
    whole = np.full((queries, 2), quality, np.float32)
    tokens = np.full((queries, 2), 100, np.float32)
    models = np.full(2, usual, np.float32)
    told = np.full(queries, trust, np.float32)
    return Predictions(whole, whole, whole, tokens, tokens, tokens, models, np.full(2, 25, np.float32), told)


def test_each_model_goes_through_its_own_row_and_unknown_ones_through_the_last() -> None:
    told = MAP.apply(np.array([[0.5, 0.5, 0.5]]), ["b", "a", "new"])
    assert told == pytest.approx(np.array([[0.25, 0.5, 0.25]]))


def test_forecasts_between_knots_are_joined_by_lines_and_those_outside_are_clipped() -> None:
    told = MAP.apply(np.array([[0.125], [1.5], [-1.0]]), ["a"])
    assert told[:, 0] == pytest.approx([0.125, 1.0, 0.0])


def test_intervals_lie_around_the_recalibrated_quality_within_0_and_1() -> None:
    told, low, high = MAP.bounds(np.array([[1.0], [0.5]]), ["a"])
    assert low[:, 0] == pytest.approx([0.9, 0.4])
    assert high[:, 0] == pytest.approx([1.0, 0.6])
    assert told[:, 0] == pytest.approx([1.0, 0.5])


def test_token_quantiles_scale_the_forecast_by_model_and_level() -> None:
    tokens = np.array([[100.0, 100.0, 100.0]])
    assert TOKENS.quantile(tokens, ["a", "b", "new"])[0] == pytest.approx([200, 100, 400])
    assert TOKENS.quantile(tokens, ["a", "b", "new"], 0.5)[0] == pytest.approx([100, 100, 100])


def test_a_level_that_was_not_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"level 0\.42 is none of"):
        TOKENS.quantile(np.array([[1.0]]), ["a"], 0.42)


def test_trust_falls_with_distance_and_is_nothing_without_an_embedding() -> None:
    near, between, far = EYE[0], np.array([0.6, 0, 0.8, 0]), EYE[2]
    trust = GATE.trust(np.array([near, between, far, np.zeros(4)]))
    assert trust == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_without_trust_forecasts_are_the_usual_ones_with_a_wide_interval() -> None:
    told = Calibration(MAP, TOKENS, GATE, strange=0.3).apply(predictions(0.8), EYE[2:3], ["a", "b"])
    assert (told.trust[0], told.quality[0, 0]) == (0.0, pytest.approx(0.5))
    assert (told.low[0, 0], told.high[0, 0]) == (pytest.approx(0.2), pytest.approx(0.8))
    assert told.tokens[0, 0] == pytest.approx(25)


def test_with_trust_forecasts_are_the_recalibrated_ones() -> None:
    told = Calibration(MAP, TOKENS, GATE).apply(predictions(0.8), EYE[:1], ["a", "b"])
    assert told.quality[0] == pytest.approx([0.8, 0.4])
    assert told.tokens_high[0] == pytest.approx([200, 100])


def test_the_lower_trust_of_router_and_gate_counts() -> None:
    told = Calibration(MAP, TOKENS, GATE).apply(predictions(0.8, trust=0.5), EYE[:1], ["a", "b"])
    assert told.trust[0] == 0.5
    assert told.quality[0, 0] == pytest.approx(0.65)


def test_an_artifact_gives_back_the_same_calibration() -> None:
    made = Calibration(MAP, TOKENS, GATE, strange=0.2)
    read = Calibration.from_arrays(made.arrays())
    one, other = (each.apply(predictions(0.7, queries=4), EYE, ["b", "new"]) for each in (made, read))
    assert np.array_equal(one.quality, other.quality) and np.array_equal(one.tokens_high, other.tokens_high)
    assert np.array_equal(one.trust, other.trust) and read.strange == 0.2


def test_a_calibration_without_gate_trusts_every_query() -> None:
    read = Calibration.from_arrays(Calibration(MAP, TOKENS).arrays())
    assert read.gate is None
    assert read.apply(predictions(0.7), EYE[2:3], ["a", "b"]).trust[0] == 1.0


@pytest.mark.parametrize("part", [QualityMap, TokenBounds, Gate, Calibration])
def test_missing_arrays_are_named(part: type[Calibration]) -> None:
    with pytest.raises(ArtifactError, match=r"lacks the arrays .*: train it anew"):
        part.from_arrays({})


def test_arrays_that_do_not_fit_one_another_are_refused() -> None:
    short = {**MAP.arrays(), "quality_map.values": MAP.values[:1]}
    with pytest.raises(ArtifactError, match="quality_map"):
        QualityMap.from_arrays(short)
    with pytest.raises(ArtifactError, match="token_bounds"):
        TokenBounds.from_arrays({**TOKENS.arrays(), "token_bounds.offsets": np.zeros((3, len(LEVELS) - 1))})
    with pytest.raises(ArtifactError, match="gate"):
        Gate.from_arrays({**GATE.arrays(), "gate.limits": np.array([1.0, 0.8, 0.4])})
