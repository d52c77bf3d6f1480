"""Logged decisions to judge policies by: what was known, who was asked, with which probability, what it was worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routers.training.dataset import Dataset, Doubles, Floats, Indices

Bools = npt.NDArray[np.bool_]

# Propensities are logged with six decimals.
ROUNDING = 2e-6


@dataclass(frozen=True, slots=True, eq=False)
class Logs:
    """N decisions over M models.

    `contexts` [N, D] are what a reward model may see (embeddings), `chosen` [N] the model that was asked, `propensity`
    [N] in (0, 1] its logged probability, `reward` [N] in `bounds` (NaN: not judged, not yet or never). `logged`
    [N, M] is the whole distribution that was drawn from, where it was kept. `groups` [N] numbers what is not
    independent, such as rewordings of one question. `bounds` are known without the logs, whose own extremes are no
    bounds: a greater reward may be to come. `ValueError` names the row that is wrong.
    """

    models: tuple[str, ...]
    contexts: Floats
    chosen: Indices
    propensity: Doubles
    reward: Doubles
    logged: Doubles | None = None
    groups: Indices | None = None
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        rows, models = len(self.chosen), len(self.models)
        if not rows:
            raise ValueError("there are no logged decisions")
        shapes = {"contexts": self.contexts.shape[:1], "propensity": self.propensity.shape, "reward": self.reward.shape}
        for name, shape in shapes.items():
            if shape != (rows,):
                raise ValueError(f"{name} has {shape} entries for {rows} decisions")
        _refuse((self.chosen < 0) | (self.chosen >= models), f"chosen is not one of the {models} models")
        _refuse(~((self.propensity > 0) & (self.propensity <= 1 + ROUNDING)), "propensity is not in (0, 1]")
        low, high = self.bounds
        _refuse((self.reward < low) | (self.reward > high), f"reward is outside {low:g}..{high:g}")
        if self.logged is not None:
            self._check_logged(self.logged, (rows, models))

    def _check_logged(self, logged: Doubles, shape: tuple[int, int]) -> None:
        if logged.shape != shape:
            raise ValueError(f"logged has the shape {logged.shape}, not {shape}")
        slack = ROUNDING * shape[1]
        _refuse(~(logged >= 0).all(axis=1), "logged has a negative or missing probability")
        _refuse(np.abs(logged.sum(axis=1) - 1) > slack + 1e-9, "logged probabilities do not sum to 1")
        apart = np.abs(logged[np.arange(shape[0]), self.chosen] - self.propensity) > ROUNDING
        _refuse(apart, "propensity is not what logged says of the chosen model")

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def judged(self) -> Bools:
        """[N] where there is a reward."""
        return ~np.isnan(self.reward)

    def rows(self, kept: Indices | Bools) -> Logs:
        """Some of the decisions."""
        return replace(
            self,
            contexts=self.contexts[kept],
            chosen=self.chosen[kept],
            propensity=self.propensity[kept],
            reward=self.reward[kept],
            logged=None if self.logged is None else self.logged[kept],
            groups=None if self.groups is None else self.groups[kept],
        )


def logs_of(dataset: Dataset, reward: Doubles | None = None, bounds: tuple[float, float] = (0.0, 1.0)) -> Logs:
    """The decisions of an export: one row for each outcome that has a propensity.

    `reward` [Q, M] is what an outcome was worth (the score unless given); `ValueError` without any propensity.
    """
    if dataset.propensity is None or not np.isfinite(dataset.propensity).any():
        raise ValueError(
            f"'{dataset.name}' has no column 'propensity': only logged decisions can be judged off policy;"
            " `fingerpost data export` writes them"
        )
    query, chosen = np.nonzero(np.isfinite(dataset.propensity))
    worth = np.asarray(dataset.score if reward is None else reward, dtype=np.float64)
    return Logs(
        models=tuple(card.id for card in dataset.models),
        contexts=dataset.inputs.embeddings[query],
        chosen=chosen,
        propensity=dataset.propensity[query, chosen].astype(np.float64),
        reward=worth[query, chosen],
        groups=dataset.groups[query],
        bounds=bounds,
    )


def places_of(dataset: Dataset) -> Indices:
    """[N] the query's row in `dataset` of each decision that `logs_of` gives."""
    assert dataset.propensity is not None  # noqa: S101 - `logs_of` has refused it
    return np.nonzero(np.isfinite(dataset.propensity))[0]


def draw(
    models: Sequence[str], contexts: Floats, logged: Doubles, reward: Doubles, groups: Indices | None, seed: int
) -> Logs:
    """Logs as a policy with the probabilities `logged` [N, M] would have written them, where every reward is known."""
    points = np.random.default_rng(seed).random(len(logged))[:, None]
    passed = np.cumsum(logged, axis=1)
    chosen = (points >= passed / passed[:, -1:]).sum(axis=1)
    every = np.arange(len(logged))
    return Logs(tuple(models), contexts, chosen, logged[every, chosen], reward[every, chosen], logged, groups)


def _refuse(wrong: Bools | np.bool_, what: str) -> None:
    wrong = np.atleast_1d(wrong)
    if wrong.any():
        raise ValueError(f"decision {int(np.argmax(wrong))}: {what} ({int(wrong.sum())} of {len(wrong)} decisions)")
