"""Linear maps of queries: the design matrix that fits use, ridge regression, and its folding into arrays that serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from routers.inputs import Floats, Inputs

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

Reals = TypeVar("Reals", Floats, Doubles)

# A coordinate of a unit embedding is about 0.05: facts of this spread are shrunk a little less than those.
FACT_SPREAD = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Columns of a fit: embeddings, then facts brought to one spread; `centre` and `scale` [facts] undo that."""

    centre: Doubles
    scale: Doubles

    @classmethod
    def of(cls, inputs: Inputs) -> Design:
        """Centre and scale of these queries' facts; a fact that never changes weighs nothing."""
        facts = inputs.facts.astype(np.float64)
        spread = facts.std(axis=0)
        return cls(facts.mean(axis=0), np.where(spread > 1e-9, FACT_SPREAD / np.maximum(spread, 1e-9), 0.0))

    def matrix(self, inputs: Inputs) -> Doubles:
        """Shape [Q, dimensions + facts]."""
        facts = (inputs.facts.astype(np.float64) - self.centre) * self.scale
        return np.hstack([inputs.embeddings.astype(np.float64), facts])

    def folded(self, weights: Doubles, bias: Doubles, prefix: str = "") -> dict[str, Array]:
        """Arrays for `linear`, from weights [columns, M] and bias [M] of the design matrix."""
        dimensions = len(weights) - len(self.scale)
        of_facts = weights[dimensions:] * self.scale[:, None]
        return {
            f"{prefix}weights": weights[:dimensions].astype(np.float32),
            f"{prefix}fact_weights": of_facts.astype(np.float32),
            f"{prefix}bias": (bias - self.centre @ of_facts).astype(np.float32),
        }


LINEAR = ("weights", "fact_weights", "bias")


def linear(arrays: Mapping[str, Array], inputs: Inputs, prefix: str = "") -> Floats:
    """Embeddings and facts times folded weights plus bias, shape [Q, M]."""
    found: Floats = inputs.embeddings @ arrays[prefix + "weights"]
    found += inputs.facts @ arrays[prefix + "fact_weights"]
    found += arrays[prefix + "bias"]
    return found


def ridge(columns: Doubles, targets: Array, penalty: float) -> tuple[Doubles, Doubles]:
    """Weights [P, M] and bias [M] that minimise squared error + penalty x squared weights, over observed targets.

    Columns [Q, P], targets [Q, M] with NaN where nothing was observed; the bias is not penalised. A target that was
    never observed gets zeros.
    """
    weights, bias = np.zeros((columns.shape[1], targets.shape[1])), np.zeros(targets.shape[1])
    for seen, alike in _patterns(~np.isnan(targets)):
        if not seen.any():
            continue
        rows, wanted = columns[seen], targets[seen][:, alike].astype(np.float64)
        centre, usual = rows.mean(axis=0), wanted.mean(axis=0)
        rows = rows - centre
        gram = rows.T @ rows
        gram.flat[:: len(gram) + 1] += penalty
        solved = np.linalg.solve(gram, rows.T @ (wanted - usual))
        weights[:, alike] = solved
        bias[alike] = usual - centre @ solved
    return weights, bias


def _patterns(observed: npt.NDArray[np.bool_]) -> list[tuple[npt.NDArray[np.bool_], list[int]]]:
    """Columns that were observed for the same queries, together."""
    groups: dict[bytes, list[int]] = {}
    for column in range(observed.shape[1]):
        groups.setdefault(observed[:, column].tobytes(), []).append(column)
    return [(observed[:, alike[0]], alike) for alike in groups.values()]


def sigmoid(logits: Reals) -> Reals:
    """1 / (1 + exp(-x)) without overflow, in the array's own type."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=logits.dtype)
