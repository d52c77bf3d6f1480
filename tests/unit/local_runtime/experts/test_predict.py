"""What coming layers will want."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from local_runtime.experts.predict import Affinity, Best, NextGate


def run(predictor: Any, gate_is_right: float, follows: bool, steps: int = 300) -> tuple[float, float]:
    """Mean odds of what layer 1 then wanted, and of what it did not, over the last half of the steps."""
    random = np.random.default_rng(1)
    wanted_odds, other_odds = [], []
    for step in range(steps):
        first = random.choice(8, 2, replace=False)
        second = (first + 1) % 8 if follows else random.choice(8, 2, replace=False)
        said = second if random.random() < gate_is_right else random.choice(8, 2, replace=False)
        predictor.saw(0, first)
        probabilities = np.full((1, 8), 0.01, np.float32)
        probabilities[0, said] = 0.47
        predictor.told(1, 1, probabilities)
        odds = predictor.odds(1, 1)
        if step > steps / 2 and odds is not None:
            wanted_odds.append(odds[second].mean())
            other_odds.append(np.delete(odds, second).mean())
        predictor.saw(1, second)
    return float(np.mean(wanted_odds)), float(np.mean(other_odds))


def test_a_router_that_is_always_right_is_believed() -> None:
    wanted, others = run(NextGate(8, 2), 1.0, follows=False)

    assert wanted > 0.95 and others < 0.05


def test_a_router_that_guesses_is_not() -> None:
    wanted, others = run(NextGate(8, 2), 0.0, follows=False)

    assert abs(wanted - others) < 0.1 and wanted < 0.45


@pytest.mark.parametrize("make", [lambda: Affinity(2, 8, 2), lambda: Best(2, 8, 2)], ids=["alone", "beside a router"])
def test_experts_that_follow_each_other_are_known_by_their_routes(make: Any) -> None:
    wanted, others = run(make(), 0.0, follows=True)

    assert wanted > 0.9 and others < 0.1


def test_the_better_of_two_is_believed() -> None:
    wanted, others = run(Best(2, 8, 2), 1.0, follows=False)

    assert wanted > 0.9 and others < 0.1


def test_odds_follow_a_router_that_gets_worse() -> None:
    gate = NextGate(8, 2)
    run(gate, 1.0, follows=False)

    wanted, _ = run(gate, 0.5, follows=False, steps=3000)

    assert 0.4 < wanted < 0.8


def test_nothing_is_said_of_layers_that_nobody_was_asked_about() -> None:
    assert NextGate(8, 2).odds(1, 1) is None
    assert Affinity(2, 8, 2).odds(0, 1) is None
