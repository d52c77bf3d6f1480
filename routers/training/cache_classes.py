"""Fits what texts are about: multinomial logistic regression, every class of the same weight.

It sees numbers and names only; what the numbers measure is the business of whoever calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
# The inverse of the penalty's weight, on unit vectors.
LOOSE = 3.0
ROUNDS = 500


@dataclass(frozen=True, slots=True)
class Taught:
    """Class names in order, and weights [names, inputs + 1] that end in the intercepts."""

    names: tuple[str, ...]
    weights: Floats

    def likeliest(self, inputs: Floats) -> list[str]:
        """The class of each row of inputs [rows, inputs]."""
        odds = inputs @ self.weights[:, :-1].T + self.weights[:, -1]
        return [self.names[place] for place in odds.argmax(axis=1).tolist()]


def fit_classes(inputs: Floats, names: Sequence[str]) -> Taught:
    """Of rows of inputs [rows, inputs] and their classes. `ValueError` where there are fewer than two."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    kinds, which = np.unique(np.asarray(names), return_inverse=True)
    if len(kinds) < 2:
        raise ValueError("the stream has fewer than two categories in which answers repeat")
    model = LogisticRegression(C=LOOSE, max_iter=ROUNDS, class_weight="balanced").fit(inputs, which)
    weights, intercepts = model.coef_, model.intercept_
    if len(kinds) == 2:
        # For two classes only the second one's odds are given.
        weights, intercepts = np.concatenate([-weights / 2, weights / 2]), np.array([-0.5, 0.5]) * intercepts
    whole = np.concatenate([weights, intercepts[:, None]], axis=1).astype(np.float32)
    return Taught(tuple(str(kind) for kind in kinds), whole)


def crossed(inputs: Floats, names: Sequence[str], folds: Places, of: npt.NDArray[np.bool_]) -> list[str]:
    """The class of each row by a model that saw no row of its fold; only rows `of` teach."""
    found = [""] * len(names)
    known = np.asarray(names)
    for fold in np.unique(folds):
        ours = np.flatnonzero(folds == fold)
        chosen = (folds != fold) & of
        taught = fit_classes(inputs[chosen], known[chosen].tolist())
        for place, name in zip(ours.tolist(), taught.likeliest(inputs[ours]), strict=True):
            found[place] = name
    return found
