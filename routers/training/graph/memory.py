"""What the graph remembers of outcomes: linear maps and fine nodes' residuals, for serving and out of fold.

Everything is a deviation from a model's mean: of its score, and of the logarithm of its output tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from routers.graph_fold import gathered
from routers.linear import ridge
from routers.training.dataset import Doubles, Indices
from routers.training.graph.material import Material
from routers.training.means import fill

# Penalties of the linear maps: what all models have in common can bear less than what sets one apart.
COMMON_PENALTY, OWN_PENALTY, TOKENS_PENALTY = 10.0, 30.0, 10.0
# A fine node's residual counts this much less than its queries.
_NODE_SHRINKAGE = 1.0
REACHES = (8.0, 15.0, 25.0)


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Means [M] of scores and log tokens; linear maps [P + 1, 1] and [P + 1, M], the last row being the bias; residuals
    at the fine nodes [N, M]. `score` and `tokens` bear their names."""

    usual: Doubles
    usual_tokens: Doubles
    common: Doubles
    own: Doubles
    tokens: Doubles
    fine: Doubles
    fine_tokens: Doubles


@dataclass(frozen=True, slots=True, eq=False)
class Recalled:
    """What a memory says of queries: [Q, M] each, `common` [Q, 1]."""

    common: Doubles
    own: Doubles
    fine: Doubles
    tokens: Doubles
    fine_tokens: Doubles

    def rows(self, chosen: Indices) -> Recalled:
        """Of some of the queries."""
        return Recalled(*(getattr(self, name)[chosen] for name in self.__slots__))


def remember(made: Material, rows: Indices) -> Memory:
    """From the outcomes of some rows."""
    usual, rest = fill(made.score[rows])
    seen = ~np.isnan(made.score[rows])
    usual_tokens, token_rest = fill(made.log_tokens[rows])
    per_query = seen.sum(axis=1, keepdims=True)
    shared = rest.sum(axis=1, keepdims=True) / np.maximum(per_query, 1)
    columns = made.columns[rows]
    apart = np.where(seen, rest - shared, np.nan)
    token_seen = ~np.isnan(made.log_tokens[rows])
    lengths = np.where(token_seen, token_rest, np.nan)
    return Memory(
        usual=usual,
        usual_tokens=usual_tokens,
        common=_map(columns, np.where(per_query > 0, shared, np.nan), COMMON_PENALTY),
        own=_map(columns, apart, OWN_PENALTY),
        tokens=_map(columns, lengths, TOKENS_PENALTY),
        fine=_at_nodes(made, rows, rest, seen),
        fine_tokens=_at_nodes(made, rows, token_rest, token_seen),
    )


def recall(made: Material, memory: Memory, rows: Indices) -> Recalled:
    """What the memory says of some rows."""
    columns, weights = made.columns[rows], _attention(made, rows)
    return Recalled(
        common=columns @ memory.common[:-1] + memory.common[-1],
        own=columns @ memory.own[:-1] + memory.own[-1],
        fine=weights @ memory.fine,
        tokens=columns @ memory.tokens[:-1] + memory.tokens[-1],
        fine_tokens=weights @ memory.fine_tokens,
    )


def out_of_fold(made: Material, apart: int) -> Recalled:
    """What is remembered of each row without the outcomes of its own fold, and without those of the fold `apart`.

    A network that learns from these may then be judged on that fold: none of its outcomes has reached it.
    """
    found = None
    for fold in np.unique(made.fold):
        inside = np.flatnonzero(made.fold == fold)
        memory = remember(made, np.flatnonzero((made.fold != fold) & (made.fold != apart)))
        part = recall(made, memory, inside)
        if found is None:
            found = Recalled(*(np.zeros((len(made), getattr(part, name).shape[1])) for name in Recalled.__slots__))
        for name in Recalled.__slots__:
            getattr(found, name)[inside] = getattr(part, name)
    assert found is not None  # noqa: S101 - there is a fold
    return found


def tuned_reach(made: Material) -> Material:
    """The same with the reach of neighbourhoods under which fine nodes explain most, out of fold."""

    def explained(reach: float) -> float:
        tried = replace(made, places=replace(made.places, reach=reach))
        both, own = np.sum([_told(tried, fold) for fold in np.unique(made.fold)], axis=0)
        return float(both * abs(both) / max(own, 1e-12))

    best = max(REACHES, key=explained)
    return replace(made, places=replace(made.places, reach=best))


def _told(made: Material, fold: int) -> Doubles:
    """Covariance of what nodes say with what was observed, and the variance of the former, on one fold."""
    inside, outside = np.flatnonzero(made.fold == fold), np.flatnonzero(made.fold != fold)
    usual, rest = fill(made.score[outside])
    told = _attention(made, inside) @ _at_nodes(made, outside, rest, ~np.isnan(made.score[outside]))
    true = np.nan_to_num(made.score[inside] - usual)
    return np.array([(told * true).sum(), (told * told).sum()])


def _map(columns: Doubles, targets: Doubles, penalty: float) -> Doubles:
    weights, bias = ridge(columns, targets, penalty)
    return np.vstack([weights, bias])


def _attention(made: Material, rows: Indices) -> Doubles:
    embeddings, places = made.inputs.embeddings[rows], made.places
    blocks = (embeddings[at : at + 1024] for at in range(0, len(rows), 1024))
    return np.concatenate([places.attention(block @ places.fine.T) for block in blocks]).astype(np.float64)


def _at_nodes(made: Material, rows: Indices, rest: Doubles, seen: npt.NDArray[np.bool_]) -> Doubles:
    nodes = len(made.places.fine)
    sums = gathered(made.node[rows], rest, nodes)
    counts = gathered(made.node[rows], seen.astype(np.float64), nodes)
    return sums / (counts + _NODE_SHRINKAGE)
