"""Fits the gate of `routers.gate`: which similarity to the training queries a forecast needs to be believed.

Novelty is made by leaving whole clusters of queries out; no label of a task is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from routers.gate import Gate, nearest
from routers.inputs import Floats
from routers.training.dataset import Doubles, Indices

MOST_ANCHORS = 1024
NEIGHBOUR = 5
CLUSTERS = 8
# The share of known queries that are not trusted wholly, and over how much cosine trust falls from all to nothing.
FAMILIAR_LOST = 0.1
WIDTH = 0.1
# Standard errors that gains must pass where whole clusters are compared.
_ERRORS_OF_PARTS = 2.0
_ROUNDS = 25
_GRID = 31


def fit_gate(
    embeddings: Floats, groups: Indices, seed: int = 0, neighbour: int = NEIGHBOUR, most: int = MOST_ANCHORS
) -> Gate:
    """A gate from queries alone, `embeddings` [Q, D] and `groups` [Q]: queries as near as nine in ten of those known
    are to each other (leaving out themselves) are trusted, and none at all that are `WIDTH` of cosine further away.

    At most `most` queries are kept as anchors. `ValueError` where no query has an embedding.
    """
    anchors = _anchors(embeddings, groups, most, seed)
    neighbour = min(neighbour, len(anchors))
    known = familiarity(embeddings, groups, anchors, neighbour)
    high = float(np.quantile(known, FAMILIAR_LOST))
    return Gate(embeddings[anchors], neighbour, high - WIDTH, high)


def left_out_similarity(
    embeddings: Floats, groups: Indices, gate: Gate, clusters: int = CLUSTERS, seed: int = 0
) -> Floats:
    """Similarity [Q] of each query to the queries of other clusters, as `gate` would have seen it without its own.

    NaN where there is no other cluster. For `tune_gate`, with forecasts for left-out clusters of the same seed.
    """
    found = np.full(len(embeddings), np.nan, dtype=np.float32)
    for kept, out in leave_clusters_out(embeddings, groups, clusters, seed):
        few = embeddings[_few(kept, len(gate.anchors), seed)]
        found[out] = nearest(embeddings[out], few, min(gate.neighbour, len(few)))
    return found


def tune_gate(gate: Gate, similarity: Floats, gain: Doubles, parts: Indices | None = None) -> Gate:
    """The gate opened further, as far as forecasts for queries of left-out clusters were worth more than the usual.

    `similarity` [Q] is that of `left_out_similarity`, `gain` [Q] what trusting the forecast instead of the usual one
    was worth there. The limit with the greatest sum of gains beyond one standard error is taken; where no sum is
    above that, the gate stays as it is. Gates are never narrowed by outcomes: known queries keep their trust.
    With `parts` [Q], the cluster of each query, the error is that of whole clusters, and the sum must be beyond two:
    what is new comes by the skill, and what one cluster's queries gain says little of the next.
    """
    best, limit = 0.0, gate.high
    known = np.isfinite(similarity) & np.isfinite(gain)
    similarity, gain = similarity[known], gain[known]
    errors, part = (1.0, np.arange(len(gain))) if parts is None else (_ERRORS_OF_PARTS, parts[known])
    if not len(gain):
        return gate
    for lower in (-1.0, *np.quantile(similarity, np.linspace(0, 1, _GRID)).tolist()):
        between = (similarity >= lower) & (similarity < gate.high)
        sums = np.bincount(part[between], gain[between])
        worth = float(sums.sum() - errors * np.sqrt((sums**2).sum()))
        if worth > best:
            best, limit = worth, lower
    return Gate(gate.anchors, gate.neighbour, limit - WIDTH, limit)


def familiarity(embeddings: Floats, groups: Indices, anchors: Indices, neighbour: int) -> Floats:
    """Similarity [Q] of each query to the anchors that ask another question than itself."""
    found = np.empty(len(embeddings), dtype=np.float32)
    for at in range(0, len(embeddings), 512):
        block = slice(at, at + 512)
        cosines = embeddings[block] @ embeddings[anchors].T
        cosines[groups[block][:, None] == groups[anchors][None]] = -1.0
        place = max(cosines.shape[1] - neighbour, 0)
        found[block] = np.partition(cosines, place, axis=1)[:, place]
    return found


def leave_clusters_out(
    embeddings: Floats, groups: Indices, count: int = CLUSTERS, seed: int = 0
) -> Iterator[tuple[Indices, Indices]]:
    """For each of `count` clusters of queries: the other rows (less those that ask its questions), and its rows."""
    label = spherical_clusters(embeddings, min(count, max(len(embeddings) // 2, 1)), seed)
    for one in np.unique(label):
        out = np.flatnonzero(label == one)
        kept = np.flatnonzero((label != one) & ~np.isin(groups, groups[out]))
        if len(kept):
            yield kept, out


def spherical_clusters(embeddings: Floats, count: int, seed: int = 0) -> npt.NDArray[np.intp]:
    """k-means by cosine: the cluster [Q] of each unit vector; begins with vectors far from one another."""
    rng = np.random.default_rng(seed)
    centres = embeddings[_spread(embeddings, count, rng)]
    label = np.zeros(len(embeddings), dtype=np.intp)
    for _ in range(_ROUNDS):
        fresh = (embeddings @ centres.T).argmax(axis=1)
        if (fresh == label).all():
            break
        label = fresh
        sums = np.zeros_like(centres)
        np.add.at(sums, label, embeddings)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres)
    return label


def _spread(embeddings: Floats, count: int, rng: np.random.Generator) -> Indices:
    """k-means++: each further start is drawn in proportion to its squared distance from those before."""
    chosen = [int(rng.integers(len(embeddings)))]
    far = 1.0 - embeddings @ embeddings[chosen[0]]
    for _ in range(count - 1):
        mass = np.maximum(far, 0).astype(np.float64)
        total = mass.sum()
        place = int(rng.choice(len(far), p=mass / total)) if total > 0 else int(rng.integers(len(far)))
        chosen.append(place)
        far = np.minimum(far, 1.0 - embeddings @ embeddings[place])
    return np.array(chosen, dtype=np.intp)


def _anchors(embeddings: Floats, groups: Indices, most: int, seed: int) -> Indices:
    """Rows that stand for all: one a question, at most `most`."""
    _, firsts = np.unique(groups, return_index=True)
    usable = firsts[embeddings[firsts].any(axis=1)]
    if not len(usable):
        raise ValueError("no query has an embedding: the gate can't be fitted")
    return _few(np.sort(usable), most, seed)


def _few(rows: Indices, most: int, seed: int) -> Indices:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
