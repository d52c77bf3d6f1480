"""When a kind of `routers.folded` may be believed: its gate, from what it tells of clusters of queries left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routers.artifact import Array
from routers.gate import Gate
from routers.training.choices import mean_of
from routers.training.dataset import Doubles
from routers.training.lesson import Lesson
from routers.training.novelty import fit_gate, leave_clusters_out, left_out_similarity, tune_gate

if TYPE_CHECKING:
    from routers.folded import FoldedRouter, Settings

# Of the dearest model's mean cost, in units of score.
_COST_WEIGHTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_INTERVAL = 1.645
_NARROWEST, _WIDEST = 0.05, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """A gate, and half the 90 % interval of a model's mean score on queries unlike all others, around its usual one."""

    gate: Gate
    strange: float

    def arrays(self) -> dict[str, Array]:
        """For an artifact."""
        return {**self.gate.arrays(), "strange": np.array(self.strange)}


def trust_in(kind: type[FoldedRouter], lesson: Lesson, settings: Settings, seed: int) -> Trust | None:
    """Queries as near to those learned from as these are to each other are trusted; others as far as forecasts for
    left-out clusters led to better choices than usual scores do. None where no query has an embedding."""
    embeddings = lesson.inputs.embeddings
    if not embeddings.any():
        return None
    told, usual = np.full(lesson.score.shape, np.nan), np.full(lesson.score.shape, np.nan)
    off, cluster = [], np.zeros(len(lesson), dtype=np.intp)
    for place, (kept, out) in enumerate(leave_clusters_out(embeddings, lesson.groups, seed=seed)):
        cluster[out] = place
        part = lesson.rows(kept)
        told[out] = kind.told(kind.learn(part, settings, seed), lesson.inputs.rows(out))[0]
        usual[out] = part.usual()
        off.append(mean_of(lesson.score[out] - usual[out]))
    first = fit_gate(embeddings, lesson.groups, seed)
    near = left_out_similarity(embeddings, lesson.groups, first, seed=seed)
    gain = rewards(np.clip(told, 0, 1), lesson) - rewards(usual, lesson)
    return Trust(tune_gate(first, near, gain, cluster), _strangeness(off))


def rewards(told: Array, lesson: Lesson) -> Doubles:
    """What the choices are worth that forecasts [Q, M] lead to: the mean reward over weights of cost [Q].

    Only what was observed can be chosen. Where most queries have one outcome or none, choices can't be judged, and it
    is the forecasts' mean square error, negative.
    """
    seen = ~np.isnan(lesson.score)
    if 2 * np.count_nonzero(seen.sum(axis=1) > 1) < len(seen):
        return -mean_of(((told - lesson.score) ** 2).astype(np.float64).T)
    score, cost = np.nan_to_num(lesson.score), np.where(seen, np.nan_to_num(lesson.cost_usd), 0.0)
    means = np.nan_to_num(mean_of(np.where(seen, lesson.cost_usd, np.nan)))
    each = np.arange(len(told))
    weights = (0.0, *(np.array(_COST_WEIGHTS) / means.max())) if means.max() > 0 else (0.0,)
    found = np.zeros(len(told))
    for weight in weights:
        picks = np.where(seen, told - weight * means, -np.inf).argmax(axis=1)
        found += score[each, picks] - weight * cost[each, picks]
    return found / len(weights)


def _strangeness(off: list[Doubles]) -> float:
    known = np.concatenate([*off, np.empty(0)])
    known = known[np.isfinite(known)]
    return float(np.clip(_INTERVAL * np.sqrt((known**2).mean()), _NARROWEST, _WIDEST)) if len(known) else _WIDEST
