"""An interrupted run goes on with the stages that it had finished, and with no other run's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routers.training.checkpoint import Checkpoint
from tests.unit.routers.training.judged import DATA, OTHER


class Stages:
    """Makes arrays and counts how often."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        self.made += 1
        return {"weights": np.full((2, 3), self.made, dtype=np.float32), "bias": np.array(0.5, dtype=np.float32)}


def test_a_finished_stage_is_taken_up_and_not_made_again(tmp_path: Path) -> None:
    stages = Stages()
    first = Checkpoint.of(tmp_path, DATA, {"rate": 0.1}, 0).stage("fold-0", stages)
    again = Checkpoint.of(tmp_path, DATA, {"rate": 0.1}, 0).stage("fold-0", stages)

    assert stages.made == 1
    assert np.array_equal(first["weights"], again["weights"]) and again["bias"].shape == ()


@pytest.mark.parametrize(
    "other",
    [
        lambda folder: Checkpoint.of(folder, OTHER, {"rate": 0.1}, 0),
        lambda folder: Checkpoint.of(folder, DATA, {"rate": 0.2}, 0),
        lambda folder: Checkpoint.of(folder, DATA, {"rate": 0.1}, 1),
    ],
    ids=["other data", "other settings", "another seed"],
)
def test_another_run_makes_its_own(tmp_path: Path, other: object) -> None:
    stages = Stages()
    Checkpoint.of(tmp_path, DATA, {"rate": 0.1}, 0).stage("fold-0", stages)
    other(tmp_path).stage("fold-0", stages)  # type: ignore[operator]

    assert stages.made == 2


def test_a_damaged_stage_is_made_again(tmp_path: Path) -> None:
    stages = Stages()
    kept = Checkpoint.of(tmp_path, DATA, {}, 0)
    kept.stage("fold-0", stages)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])

    kept.stage("fold-0", stages)

    assert stages.made == 2 and len(list(tmp_path.iterdir())) == 1


def test_without_a_folder_every_stage_is_made() -> None:
    stages = Stages()
    kept = Checkpoint.of(None, DATA, {}, 0)

    for _ in range(2):
        kept.stage("fold-0", stages)

    assert stages.made == 2
