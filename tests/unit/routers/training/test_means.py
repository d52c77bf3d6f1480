"""Means and rests where not everything was observed."""

from __future__ import annotations

import numpy as np
import pytest

from routers.training.means import fill


def test_means_of_whole_tables_are_the_columns_own() -> None:
    values = np.random.default_rng(0).random((50, 3))

    mean, rest = fill(values)

    assert np.allclose(mean, values.mean(axis=0))
    assert np.allclose(rest, values - mean)


def test_who_was_asked_the_hard_questions_is_not_taken_for_the_weaker() -> None:
    hardness = np.repeat([0.3, -0.3], 100)[:, None]
    values = 0.5 + hardness + np.array([[0.1, 0.0, 0.1]])
    values[:100, 2] = np.nan  # knows the hard half only
    values[100:, 0] = np.nan  # and this one the easy half

    mean, _ = fill(values)

    assert abs(mean[0] - mean[2]) < 0.15  # plain means differ by 0.6
    assert np.nanmean(values, axis=0)[0] - np.nanmean(values, axis=0)[2] == pytest.approx(0.6)


def test_a_column_without_values_has_no_rests() -> None:
    mean, rest = fill(np.array([[0.5, np.nan], [0.7, np.nan]]))

    assert mean[1] == 0.0
    assert not rest[:, 1].any()
