"""What a training step may see: random interactions dropped, some models hidden behind their cards and a few labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from routers.graph_nodes import SKILL_STRENGTH, blended
from routers.graph_pool import LOG_TOKENS, Graph
from routers.training.dataset import Doubles, Indices
from routers.training.graph.material import Material
from routers.training.graph.memory import Recalled
from routers.training.graph.network import KinToModel, ModelNodes, QueryNodes
from routers.training.means import fill

SHOTS = (0, 4, 16, 64)
HIDDEN_SHARE = 0.25


@cache
def _kin_to_model() -> KinToModel:
    """It has no weights, and making one takes long."""
    return KinToModel()


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Sufficient statistics of edges model - skill, [K, M] each: observed mass, sums of rests of score and tokens."""

    mass: Doubles
    score: Doubles
    tokens: Doubles

    def without(self, other: Statistics) -> Statistics:
        """These less others."""
        return Statistics(self.mass - other.mass, self.score - other.score, self.tokens - other.tokens)


@dataclass(frozen=True, slots=True, eq=False)
class Rests:
    """Rests of all rows from the means of the rows that may be learned from, 0 where nothing was observed."""

    usual: Doubles
    usual_tokens: Doubles
    score: Doubles
    tokens: Doubles
    seen: Doubles

    @classmethod
    def of(cls, made: Material, rows: Indices) -> Rests:
        """Means over `rows`, rests of all."""
        usual, _ = fill(made.score[rows])
        usual_tokens, _ = fill(made.log_tokens[rows])
        seen = ~np.isnan(made.score)
        rest = np.where(seen, made.score - usual, 0.0)
        lengths = np.nan_to_num(made.log_tokens - usual_tokens)
        return cls(usual, usual_tokens, rest, lengths, seen.astype(np.float64))

    def statistics(self, made: Material, rows: Indices) -> Statistics:
        """Of some rows."""
        membership = made.membership[rows].T
        return Statistics(membership @ self.seen[rows], membership @ self.score[rows], membership @ self.tokens[rows])


def tensor(values: npt.NDArray[np.floating]) -> Tensor:
    """Single precision."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def query_nodes(made: Material, recalled: Recalled, rows: Indices) -> QueryNodes:
    """Queries with what is remembered of them (given for all rows)."""
    part = recalled.rows(rows)
    return QueryNodes(
        columns=tensor(made.columns[rows]),
        membership=tensor(made.membership[rows]),
        common=tensor(part.common),
        own=tensor(part.own),
        fine=tensor(part.fine),
        tokens=tensor(part.tokens),
        fine_tokens=tensor(part.fine_tokens),
    )


def model_nodes(rests: Rests, statistics: Statistics) -> ModelNodes:
    """Models with all the edges that the statistics tell of."""
    skill, tokens, reliability = blended(
        statistics.mass.T, statistics.score.T, statistics.tokens.T, np.zeros_like(statistics.mass.T), None
    )
    return ModelNodes(
        tensor(rests.usual), tensor(rests.usual_tokens), tensor(skill), tensor(tokens), tensor(reliability)
    )


def edges_of(graph: Graph) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Usual log tokens and edges of the models that a folded graph learned from."""
    learned = slice(0, graph.learned)
    mass, score, tokens = graph.edges[:, learned]
    skill, lengths, reliability = blended(mass, score, tokens, np.zeros_like(mass), None)
    return tensor(graph.table[learned, LOG_TOKENS]), tensor(skill), tensor(lengths), tensor(reliability)


@dataclass(frozen=True, slots=True, eq=False)
class Lot:
    """Which models are hidden in a step, how many labels each keeps, and the rows of those."""

    hidden: Indices
    labels: list[Indices]


def draw(rng: np.random.Generator, models: int, rows: Indices) -> Lot:
    """Hide about a quarter of the models, each with 0, 4, 16 or 64 labels left; none where there are but two."""
    hidden = np.flatnonzero(rng.random(models) < HIDDEN_SHARE) if models > 2 else np.empty(0, dtype=np.intp)
    shots = rng.choice(SHOTS, len(hidden))
    return Lot(hidden, [rng.choice(rows, min(int(count), len(rows)), replace=False) for count in shots])


def hide(
    made: Material, rests: Rests, models: ModelNodes, queries: QueryNodes, lot: Lot, strength: float
) -> tuple[ModelNodes, QueryNodes]:
    """The same with hidden models known by their kin's figures and their few labels."""
    if not len(lot.hidden):
        return models, queries
    hidden = torch.from_numpy(lot.hidden)
    kin = tensor(made.kin[lot.hidden])
    figures = torch.cat([models.usual[:, None], models.usual_tokens[:, None], models.skill, models.skill_tokens], dim=1)
    told = _kin_to_model()(figures, kin)
    skills = models.skill.shape[1]
    mass, score, tokens, usual, usual_tokens = _labelled(made, rests, lot, told[:, :2].numpy(), strength)
    skill, skill_tokens, reliability = blended(
        mass, score, tokens, told[:, 2 : 2 + skills].numpy(), told[:, 2 + skills :].numpy()
    )
    changed = ModelNodes(
        _put(models.usual, hidden, usual),
        _put(models.usual_tokens, hidden, usual_tokens),
        _put(models.skill, hidden, skill),
        _put(models.skill_tokens, hidden, skill_tokens),
        _put(models.reliability, hidden, reliability),
    )
    spread = (_bent(one, hidden, kin) for one in (queries.own, queries.fine, queries.tokens, queries.fine_tokens))
    own, fine, lengths, fine_lengths = spread
    return changed, QueryNodes(queries.columns, queries.membership, queries.common, own, fine, lengths, fine_lengths)


def _labelled(
    made: Material, rests: Rests, lot: Lot, prior: Doubles, strength: float
) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles]:
    """Statistics [hidden, K] and usual figures [hidden] of hidden models, from their labels and their kin."""
    found = []
    for place, (column, rows) in enumerate(zip(lot.hidden, lot.labels, strict=True)):
        seen = rows[rests.seen[rows, column] > 0]
        membership = made.membership[seen]
        score = rests.usual[column] + rests.score[seen, column]
        length = rests.usual_tokens[column] + rests.tokens[seen, column]
        told, told_length = float(np.clip(prior[place, 0], 0.02, 0.98)), float(prior[place, 1])
        usual = (score.sum() + strength * told) / (len(seen) + strength)
        usual_length = (length.sum() + SKILL_STRENGTH * told_length) / (len(seen) + SKILL_STRENGTH)
        found.append(
            (
                membership.sum(axis=0),
                (score - usual) @ membership,
                (length - usual_length) @ membership,
                usual,
                usual_length,
            )
        )
    mass, scores, lengths, usual_all, length_all = zip(*found, strict=True)
    return np.array(mass), np.array(scores), np.array(lengths), np.array(usual_all), np.array(length_all)


def _put(values: Tensor, places: Tensor, fresh: Doubles) -> Tensor:
    changed = values.clone()
    changed[places] = tensor(fresh)
    return changed


def _bent(values: Tensor, hidden: Tensor, kin: Tensor) -> Tensor:
    changed = values.clone()
    changed[:, hidden] = values @ kin.T
    return changed
