"""Two models of one probability, as plain arrays."""

import numpy as np
import pytest

from routers.training.same_answer import Pairs, Plan, fit


def pairs(rows: int = 600) -> Pairs:
    """The first input tells, in category 1 less; the second is noise."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, 2)).astype(np.float32)
    category = rng.integers(0, 2, rows)
    same = inputs[:, 0] + 0.5 * rng.normal(size=rows) > category
    return Pairs(inputs, category.astype(np.intp), same)


PLAN = Plan(categories=2, sloped=(0,), direction=(1, 0), trees=20, leaves=4)


def test_the_linear_part_weighs_what_tells_and_keeps_categories_apart() -> None:
    linear = fit(pairs(), PLAN)["linear"]

    assert linear.shape == (3, 3)
    assert (linear[:, 0] > 5 * abs(linear[:, 1])).all()
    assert linear[0, -1] > linear[1, -1]


def test_a_category_that_is_not_known_gets_the_strictest_intercept() -> None:
    linear = fit(pairs(), PLAN)["linear"]

    assert linear[2, -1] == pytest.approx(linear[1, -1], abs=0.5)


def test_the_flat_forest_scores_as_the_fitted_one() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

    given = pairs()
    found = fit(given, PLAN)
    rows = np.concatenate([np.eye(2, dtype=np.float32)[given.category], given.inputs], axis=1)
    at = np.tile(found["roots"], (len(rows), 1))
    for _ in range(found["depth"]):
        left = np.take_along_axis(rows, found["feature"][at].astype(np.intp), axis=1) <= found["threshold"][at]
        at = np.where(left, found["left"][at], found["right"][at])
    scores = found["value"][at].sum(axis=1) + found["base"]

    same = HistGradientBoostingClassifier(
        max_iter=20, learning_rate=0.05, max_leaf_nodes=4, max_depth=7, min_samples_leaf=13, l2_regularization=5.0,
        max_features=0.4, monotonic_cst=[0, 0, 1, 0], early_stopping=False, random_state=0,
    ).fit(rows, given.same)  # fmt: skip
    assert np.allclose(scores, same.decision_function(rows), atol=1e-4)


def test_more_of_what_tells_is_never_less_likely() -> None:
    found = fit(pairs(), PLAN)

    assert found["linear"][:, 0].min() > 0
    assert found["depth"] <= 7
    assert len(found["roots"]) == 20


def test_chosen_pairs_stay_together() -> None:
    given = pairs(10)
    some = given.of(np.arange(10) < 4)

    assert np.array_equal(some.inputs, given.inputs[:4])
    assert len(some.same) == len(some.category) == 4
