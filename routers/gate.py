"""How far a query may be trusted to resemble what was learned from; serving side, fitted in `routers.training`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from routers.artifact import Array, ArtifactError
from routers.inputs import Floats

_NAMES = ("gate.anchors", "gate.limits")


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`anchors` [N, D] are unit vectors of training queries; `neighbour` which nearest one is looked at (1: the first).

    A query whose cosine to that neighbour is `high` or more is trusted wholly, at `low` or less not at all, in between
    in proportion. The cosine to the k-th neighbour is the usual non-parametric measure of novelty (Sun et al.,
    Out-of-distribution detection with deep nearest neighbors, ICML 2022, arXiv 2204.06507).
    """

    anchors: Floats
    neighbour: int
    low: float
    high: float

    def similarity(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Cosine of each query [Q, D] to its k-th nearest anchor [Q]; -1 for queries without an embedding (zeros)."""
        return nearest(embeddings, self.anchors, self.neighbour)

    def trust(self, embeddings: npt.NDArray[np.floating]) -> Floats:
        """Trust 0..1 of each query [Q, D] to [Q]; 0 for queries without an embedding."""
        near = (self.similarity(embeddings) - self.low) / (self.high - self.low)
        trust: Floats = np.minimum(np.maximum(near, 0.0), 1.0).astype(np.float32)
        return trust

    def arrays(self) -> dict[str, Array]:
        """For an artifact: names that begin with `gate.`."""
        limits = np.array([self.neighbour, self.low, self.high], dtype=np.float64)
        return {"gate.anchors": self.anchors.astype(np.float16), "gate.limits": limits}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """From what `arrays` gave; `ArtifactError` names what is missing or does not fit."""
        missing = [name for name in _NAMES if name not in arrays]
        if missing:
            raise ArtifactError(f"the artifact lacks the arrays {', '.join(missing)}: train it anew")
        anchors, limits = np.asarray(arrays["gate.anchors"], dtype=np.float32), np.asarray(arrays["gate.limits"])
        if anchors.ndim != 2 or not len(anchors) or limits.shape != (3,) or not limits[1] < limits[2]:
            raise ArtifactError("gate.anchors must be [N, D] and gate.limits (neighbour, low, high): train it anew")
        norms = np.maximum(np.linalg.norm(anchors, axis=1, keepdims=True), 1e-12)
        return cls(anchors / norms, int(limits[0]), float(limits[1]), float(limits[2]))


def nearest(embeddings: npt.NDArray[np.floating], anchors: Floats, neighbour: int) -> Floats:
    """Cosine of each row [Q, D] to its `neighbour`-th nearest anchor [Q]; -1 where the row is all zeros."""
    cosines = embeddings.astype(np.float32, copy=False) @ anchors.T
    place = max(cosines.shape[1] - neighbour, 0)
    found: Floats = np.partition(cosines, place, axis=1)[:, place]
    return np.where(embeddings.any(axis=1), found, np.float32(-1.0))
