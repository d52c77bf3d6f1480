"""Settings of a graph's training, as a caller may give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from routers.training.device import cuda_is_there


@dataclass(frozen=True, slots=True)
class Settings:
    """`skills` latent skill nodes and `nodes` fine nodes; the network's size; the loop.

    `own` is how much of what sets one model apart is believed (None: chosen by what out-of-fold choices were worth).
    `device` is where the networks learn, cpu or cuda.
    """

    skills: int = 32
    nodes: int = 1024
    hidden: int = 32
    rank: int = 8
    epochs: int = 60
    patience: int = 6
    batch: int = 256
    rate: float = 1e-3
    mixing_rate: float = 3e-2
    decay: float = 3e-2
    dropout: float = 0.3
    own: float | None = None
    device: str = "cpu"


def settings_of(given: Mapping[str, Any]) -> Settings:
    """`ValueError` names a setting that is unknown or of the wrong kind."""
    known = {one.name: one for one in fields(Settings)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"kind 'graph' has no setting '{name}' (known: {', '.join(known)})")
        if name == "device":
            _check_device(value)
            continue
        whole = isinstance(getattr(Settings(), name), int)
        good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if name == "own" and value is None:
            continue
        if not good or value < (1 if whole else 0):
            raise ValueError(f"setting '{name}' of kind 'graph' is {value!r}: give a {'whole ' * whole}number above 0")
    return Settings(**given)


def _check_device(value: object) -> None:
    if value not in ("cpu", "cuda"):
        raise ValueError(f"setting 'device' of kind 'graph' is {value!r}: give cpu or cuda")
    if value == "cuda" and not cuda_is_there():
        raise ValueError("device cuda: torch finds no GPU here; give cpu, or install a torch with CUDA")
