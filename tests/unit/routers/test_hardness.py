"""One term for all models of a query: order stays, and an artifact gives it back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routers.hardness import Hardness

ONE = Hardness(middle=0.5, spread=0.1, lift=-0.1, base=0.2, slope=0.8, bend=-0.1)


@settings(deadline=None)
@given(arrays(np.float32, (3, 4), elements=st.floats(-1, 2, width=32)))
def test_no_model_overtakes_another_and_all_stay_within_0_and_1(told: np.ndarray) -> None:
    found = ONE.mended(told)

    order = told.argsort(axis=1)
    assert (np.diff(np.take_along_axis(found, order, 1), axis=1) >= 0).all()
    assert ((found > 0) & (found < 1)).all()


def test_without_weights_forecasts_stay() -> None:
    told = np.array([[0.2, 0.9], [0.4, 0.5]], np.float32)

    assert Hardness(0.5, 0.1, 0.0).mended(told) == pytest.approx(told, abs=1e-6)


def test_a_hard_query_is_forecast_harder_and_an_easy_one_easier() -> None:
    told = np.array([[0.4, 0.4], [0.6, 0.6]], np.float32)

    hard, easy = Hardness(0.5, 0.1, 0.0, slope=0.5).mended(told)

    assert (hard < 0.3).all() and (easy > 0.7).all()


def test_an_artifact_gives_it_back() -> None:
    again = Hardness.from_arrays(ONE.arrays())

    assert again is not None
    assert np.array_equal(again.arrays()["hardness"], ONE.arrays()["hardness"])


def test_an_artifact_without_it_takes_forecasts_as_they_are() -> None:
    assert Hardness.from_arrays({}) is None
