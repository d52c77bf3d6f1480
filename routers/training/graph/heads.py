"""Linear heads beside the network: what sets each model apart as plain regressions of scores tell it, in logits.

A low-rank and a free map of a query, averaged: they err otherwise than the network does, and fold into its columns.
"""

from __future__ import annotations

import numpy as np

from routers.graph_nodes import LEAST_USUAL, MOST_USUAL
from routers.kinds.logistic import fitted as regressed
from routers.kinds.matrix_factorization import fitted as factorised
from routers.training.dataset import Doubles, Indices
from routers.training.graph.material import Material
from routers.training.means import fill

RANK, DECAY = 4, 1e-2
PENALTY = 30.0


def heads(made: Material, rows: Indices) -> Doubles:
    """Maps [P + 1, M] from the outcomes of some rows, the last row being the bias; a query's sum over models is 0."""
    columns, score = made.columns[rows], made.score[rows]
    if not len(rows):
        return np.zeros((columns.shape[1] + 1, score.shape[1]))
    weights, bias = factorised(columns, score, RANK, DECAY, np.random.default_rng(0))
    usual = np.clip(fill(score)[0], LEAST_USUAL, MOST_USUAL)
    found = (np.vstack([weights, bias]) + regressed(columns, score, PENALTY)) / 2
    found[-1] -= np.log(usual / (1 - usual))
    found[:, np.isnan(score).all(axis=0)] = 0.0
    apart: Doubles = found - found.mean(axis=1, keepdims=True)
    return apart


def heads_out_of_fold(made: Material) -> Doubles:
    """What heads say of each row that did not learn from its fold [Q, M]."""
    found = np.empty_like(made.score)
    for fold in np.unique(made.fold):
        inside = np.flatnonzero(made.fold == fold)
        maps = heads(made, np.flatnonzero(made.fold != fold))
        found[inside] = made.columns[inside] @ maps[:-1] + maps[-1]
    return found
