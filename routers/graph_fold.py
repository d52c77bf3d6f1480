"""Where a query lies in the graph, as plain arrays: its columns, skills and fine nodes; numpy, serving side.

Knows no model: what models do there is in `routers.graph_nodes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from routers.artifact import Array, ArtifactError
from routers.inputs import Floats, Inputs

Doubles = npt.NDArray[np.float64]

# A coordinate of a unit embedding is about 0.05: facts are brought near that, and cut where they are outlandish.
FACT_SPREAD = np.float32(0.1)
_MOST = np.float32(4.0)
_NAMES = ("fact_centre", "fact_scale", "skills", "fine", "fine_mass", "reach")


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Centre and scale [facts] that bring facts to mean 0 and deviation 1; scale 0 for a fact that never changes."""

    centre: Floats
    scale: Floats

    def columns(self, inputs: Inputs) -> Floats:
        """Embeddings, then facts of deviation `FACT_SPREAD`: [Q, D + facts]."""
        facts = np.minimum(np.maximum((inputs.facts - self.centre) * self.scale, -_MOST), _MOST)
        return np.concatenate([inputs.embeddings, facts * FACT_SPREAD], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """K latent skills [K, D] and N fine nodes [N, D], unit vectors, and how a query is placed among them.

    Membership of skills is softmax(sharpness x cosine). A fine node weighs mass x exp(reach x (cosine - near)), divided
    by the sum of all + doubt: far from every node the weights vanish. `mass` [N] counts the queries of a node.
    """

    spread: Spread
    skills: Floats
    fine: Floats
    mass: Floats
    near: float
    sharpness: float
    reach: float
    doubt: float

    def membership(self, inputs: Inputs) -> Floats:
        """Shape [Q, K], rows sum to 1."""
        logits = np.float32(self.sharpness) * (inputs.embeddings @ self.skills.T)
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def attention(self, cosines: Floats) -> Floats:
        """Weights of the fine nodes [Q, N] from cosines to them; rows sum to less than 1."""
        weights: Floats = cosines - np.float32(self.near)
        weights *= np.float32(self.reach)
        np.exp(weights, out=weights)
        weights *= self.mass
        weights /= weights.sum(axis=1, keepdims=True) + np.float32(self.doubt)
        return weights

    def arrays(self) -> dict[str, Array]:
        """For an artifact; the fine nodes are kept in half precision."""
        return {
            "fact_centre": self.spread.centre,
            "fact_scale": self.spread.scale,
            "skills": self.skills.astype(np.float32),
            "fine": self.fine.astype(np.float16),
            "fine_mass": self.mass.astype(np.float32),
            "reach": np.array([self.near, self.sharpness, self.reach, self.doubt], dtype=np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """The reverse of `arrays`; raises `ArtifactError` where shapes do not fit each other."""
        found = [np.asarray(arrays[name]) for name in _NAMES]
        centre, scale, skills, fine, mass, reach = found
        if skills.shape[1:] != fine.shape[1:] or len(mass) != len(fine) or reach.shape != (4,):
            raise ArtifactError("the skills and fine nodes of the graph do not fit each other: train it anew")
        spread = Spread(centre.astype(np.float32), scale.astype(np.float32))
        return cls(spread, skills, np.ascontiguousarray(fine, np.float32), mass, *map(float, reach))


def basis(places: Places, first: Floats, sent: Floats, inputs: Inputs, cosines: Floats) -> tuple[Floats, Floats]:
    """What every forecast is linear in, [Q, P + 1 + K + N + H], and the last H of it, the hidden units, with a 1.

    `first` [P, H] and `sent` [K, H] are the network's first layer, its members side by side; cosines are [Q, N].
    """
    columns, membership = places.spread.columns(inputs), places.membership(inputs)
    hidden = np.maximum(columns @ first + membership @ sent, np.float32(0))
    one = np.ones((len(columns), 1), dtype=np.float32)
    whole = np.concatenate([columns, one, membership, places.attention(cosines), hidden], axis=1)
    return whole, np.concatenate([hidden, one], axis=1)


def gathered(label: npt.NDArray[np.intp], rows: Doubles, count: int) -> Doubles:
    """Sums of rows [Q, C] by label [Q]: [count, C]."""
    order = np.argsort(label, kind="stable")
    used, starts = np.unique(label[order], return_index=True)
    sums = np.zeros((count, rows.shape[1]))
    if len(order):
        sums[used] = np.add.reduceat(rows[order], starts, axis=0)
    return sums
