"""The small net learns what no line tells, and one seed gives one net."""

import numpy as np

from routers.training.small_net import Floats, NetPlan, _slopes, fit_net

PLAN = NetPlan(first=16, second=8, epochs=40, batch=64, rate=0.01)


def rows(count: int = 800) -> Floats:
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


def score(layers: list[Floats], given: Floats) -> Floats:
    one = np.maximum(given @ layers[0] + layers[1], 0)
    return np.asarray((np.maximum(one @ layers[2] + layers[3], 0) @ layers[4] + layers[5])[:, 0])


def test_it_learns_what_no_line_divides() -> None:
    given = rows()
    same = given[:, 0] * given[:, 1] > 0

    told = score(fit_net(given, same, PLAN), given) > 0

    assert (told == same).mean() > 0.9


def test_one_seed_gives_one_net() -> None:
    given = rows(100)
    same = given[:, 0] > 0

    once, again, other = (fit_net(given, same, NetPlan(epochs=2, seed=seed)) for seed in (1, 1, 2))

    assert all(np.array_equal(one, two) for one, two in zip(once, again, strict=True))
    assert not np.array_equal(once[0], other[0])


def test_its_slopes_are_those_of_the_log_loss() -> None:
    given = rows(20).astype(np.float64)
    wanted = (given[:, 0] > 0).astype(np.float64)
    rng = np.random.default_rng(3)
    layers = [rng.normal(size=shape) for shape in ((2, 4), (4,), (4, 3), (3,), (3, 1), (1,))]
    kept = np.ones((20, 4))

    def loss() -> float:
        told = score(layers, given)  # type: ignore[arg-type]
        return float(np.mean(np.logaddexp(0, told) - wanted * told))

    for layer, slope in zip(layers, _slopes(layers, given, wanted, kept), strict=True):  # type: ignore[arg-type]
        for place in np.ndindex(layer.shape):
            layer[place] += 1e-5
            above = loss()
            layer[place] -= 2e-5
            below = loss()
            layer[place] += 1e-5
            assert abs((above - below) / 2e-5 - slope[place]) < 1e-5
