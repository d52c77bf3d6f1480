"""Streams of a simulated world: the bandit beats what stands still once the world moves, and loses little before."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from benchmarks.bandit import Terms, contestants, references, streams, walk
from policies.schema import Learning, Objective, Policy
from routers.training.simulator import make_world, simulate

OBJECTIVE = Objective()
POLICY = Policy(schema=1, name="stream", objective=OBJECTIVE, learning=Learning(within=0.1))
TERMS = Terms(delay=10, missing=0.3, half_life=400.0, exploration=0.1)


@cache
def walked(scenario: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """What each got of one stream, and the best single models in hindsight."""
    dataset = simulate(make_world(models=6, skills=4, seed=2, hardness=0.5), 1400, 3).dataset
    known, stream = streams(dataset, scenario, seed, OBJECTIVE)
    wanted = ("ridge, fixed", "ridge, 10% at random", "bandit")
    found = {label: {"got": got} for label, got in references(stream, OBJECTIVE).items()}
    for label, router, policy in contestants(known, "ridge", POLICY, TERMS):
        if label in wanted:
            found[label] = walk(stream, router, policy, TERMS, seed)
    return found


def late(scenario: str, label: str, seed: int = 0) -> float:
    """The mean of the last third."""
    got = walked(scenario, seed)[label]["got"]
    return float(np.mean(got[-len(got) // 3 :]))


def test_after_a_drift_the_bandit_is_ahead_of_a_fixed_router_and_of_random_tries() -> None:
    assert late("drift", "bandit") > late("drift", "ridge, fixed") + 0.02
    assert late("drift", "bandit") > late("drift", "ridge, 10% at random") + 0.02


def test_while_nothing_changes_the_bandit_loses_little() -> None:
    fixed, bandit = (float(walked("steady")[label]["got"].mean()) for label in ("ridge, fixed", "bandit"))

    assert bandit > fixed - 0.02


def test_a_better_model_that_joins_is_found() -> None:
    # Two streams: of one, whose last third is 327 answers, chance alone makes .03.
    gains = [late("new model", "bandit", seed) - late("new model", "ridge, fixed", seed) for seed in (0, 1)]

    assert np.mean(gains) > 0.02


def test_no_more_is_tried_than_the_policy_allows() -> None:
    for scenario in ("steady", "drift"):
        assert walked(scenario)["bandit"]["explored"] < 0.13
