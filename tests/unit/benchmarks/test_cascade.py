"""The benchmark of cascades judges all contestants on the same questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cascade import CASCADE, ONE_CALL, ORDER, ROUNDS, draw, judge, shown, table
from routers.training.simulator import make_world, simulate


def test_every_contestant_gets_a_row_and_one_call_is_level_with_itself(tmp_path: Path) -> None:
    data = simulate(make_world(models=3, seed=1), 80, 2).dataset

    rounds = [judge(data, "ridge", ["mean"], seed, None) for seed in range(2)]
    told = table(rounds)
    draw(rounds[0], "simulated", tmp_path)

    assert {CASCADE, ROUNDS, ORDER, ONE_CALL, f"{ONE_CALL}, mean", "best single"} <= set(told)
    assert told[ONE_CALL][f"minus {ONE_CALL}"]["aiq"] == [0, 0, 0]
    assert len({taken.score.shape for taken in rounds[0].taken.values()}) == 1
    assert shown("simulated", "ridge", told).count("\n| ") == len(told)
    assert (tmp_path / "cascade-simulated.svg").read_text().count("<svg") == 1


def test_a_perfect_verifier_makes_rounds_pay() -> None:
    data = simulate(make_world(models=3, seed=1), 300, 2).dataset

    one = judge(data, "ridge", [], 0, 1.0)

    gain = one.taken[ROUNDS].score.mean(axis=1) - one.taken[ONE_CALL].score.mean(axis=1)
    assert np.max(gain) > 0.05
    assert one.calls[ROUNDS].max() > 1.1
