"""Nearest neighbours: a query is answered as well, and as long, as the queries most like it were."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import Floats, Inputs

if TYPE_CHECKING:
    from routers.training.lesson import Lesson

# Of so many numbers all keys can be compared with a query in a fraction of the time that a decision has; where there
# are more, a few axes choose who is compared on all.
_KEY_NUMBERS = 400_000
_COARSE_NUMBERS = 256_000
_AXES = 160
_MORE = 4
_MOST = 480
_PARTS = 4
_CHUNK = 128


class NeighbourRouter(FoldedRouter):
    """quality = usual + mean of the k nearest queries' scores less the usual ones, weighted by cosine ** sharpness.

    Keys are the training queries' embeddings on their principal axes: of many keys, the first axes choose a few times k
    that are compared on all that are kept. Where some outcomes were not observed, the usual score weighs in like one
    more neighbour.
    """

    kind: ClassVar[str] = "knn"
    GRID: ClassVar = {"k": (10, 20, 40, 80, 160), "sharpness": (1.0, 8.0)}
    ARRAYS = ("axes", "coarse", "keys", "key_scale", "usual", "rests", "rest_scale", "seen", "k", "sharpness")

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        embeddings = lesson.inputs.embeddings.astype(np.float64)
        many = embeddings.size > _KEY_NUMBERS
        axes = _axes(embeddings, _AXES if many else embeddings.shape[1])
        keys = (embeddings @ axes).astype(np.float32)
        outcomes = np.hstack([lesson.score, lesson.log_tokens]).astype(np.float64)
        seen = ~np.isnan(outcomes)
        usual = np.where(seen, outcomes, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        packed, key_scale = _packed(keys, many)
        rests, rest_scale = _packed(np.where(seen, outcomes - usual, 0.0).astype(np.float32), many)
        return {
            "axes": axes.astype(np.float32),
            "coarse": np.ascontiguousarray(keys[:, : max(_COARSE_NUMBERS // len(keys), 8) if many else 0]),
            "keys": packed,
            "key_scale": key_scale,
            "usual": usual.astype(np.float32),
            "rests": rests,
            "rest_scale": rest_scale,
            "seen": np.empty((0, 0), np.float32) if seen.all() else seen.astype(np.float32),
            "k": np.int64(min(settings["k"], len(embeddings))),
            "sharpness": np.float32(settings["sharpness"]),
        }

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, Floats]:
        """See `FoldedRouter`."""
        points = inputs.embeddings @ arrays["axes"]
        step = 1 if arrays["coarse"].shape[1] else _CHUNK
        parts = [_rests(arrays, points[start : start + step]) for start in range(0, max(len(points), 1), step)]
        rests = parts[0] if len(parts) == 1 else np.concatenate(parts)
        models = rests.shape[1] // 2
        rests = rests * arrays["rest_scale"]
        return rests[:, :models] + arrays["usual"][:models], rests[:, models:]


def _axes(embeddings: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """The directions [D, count] that keep most of the embeddings' cosines."""
    values, vectors = np.linalg.eigh(embeddings.T @ embeddings)
    kept: npt.NDArray[np.float64] = vectors[:, np.argsort(values)[::-1][:count]]
    # An eigenvector's sign is arbitrary: fixed, so that the same data gives the same arrays everywhere.
    return kept * np.where(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])] < 0, -1.0, 1.0)


def _packed(values: Floats, small: bool) -> tuple[Array, Floats]:
    """The values as bytes with a scale for each column where they must be small: rows are read from all over memory."""
    if not small:
        return values, np.ones(values.shape[1], dtype=np.float32)
    scale = np.maximum(np.abs(values).max(axis=0) / 127, 1e-12).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def _rests(arrays: Arrays, points: Floats) -> Floats:
    """Weighted means of the nearest queries' outcomes less the usual ones, [Q, 2 M]: scores, then lengths."""
    rests, seen = arrays["rests"], arrays["seen"]
    near, alike = _neighbours(arrays, points)
    weights = (np.maximum(alike, np.float32(1e-6)) ** arrays["sharpness"])[:, None, :]
    found = (weights @ rests[near].astype(np.float32))[:, 0]
    known = weights.sum(axis=2) if not len(seen) else (weights @ seen[near])[:, 0] + weights.mean(axis=2)
    return np.asarray(found / known, dtype=np.float32)


def _neighbours(arrays: Arrays, points: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Places and cosines [Q, k] of the nearest keys; one point at a time where there are many keys."""
    keys, coarse, k = arrays["keys"], arrays["coarse"], int(arrays["k"])
    width = coarse.shape[1]
    if not width or not len(points):
        alike = points @ keys.T
        near = _nearest(alike, k)
        return near, np.take_along_axis(alike, near, axis=1)
    likely = _nearest((coarse @ points[0, :width])[None], min(max(k, min(_MORE * k, _MOST)), len(keys)))[0]
    alike = (keys[likely].astype(np.float32) @ (points[0] * arrays["key_scale"]))[None]
    near = _nearest(alike, k)
    return likely[near], np.take_along_axis(alike, near, axis=1)


def _nearest(alike: Floats, k: int) -> npt.NDArray[np.intp]:
    """Places of the k greatest in each row, in any order.

    One long row is thinned first: at least k numbers are as great as the k-th greatest of its parts' maxima.
    """
    total = alike.shape[1]
    if len(alike) == 1 and total >= 2 * _PARTS * k:
        row, whole = alike[0], total - total % _PARTS
        tops = row[:whole].reshape(_PARTS, -1).max(axis=0)
        left = np.nonzero(row >= np.partition(tops, len(tops) - k)[len(tops) - k])[0]
        return left[None, np.argpartition(row[left], len(left) - k)[len(left) - k :]]
    if k >= total:
        return np.tile(np.arange(total), (len(alike), 1))
    return np.argpartition(alike, total - k, axis=1)[:, total - k :]
