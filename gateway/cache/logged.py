"""What shadow checks have logged, as pairs to learn from: two questions, and whether both were to get one answer.

They are those that the cache has served: the surest ones, and few of them different. They teach beside a stream whose
pairs are of all kinds, never alone, and they certify nothing that was not served.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.cache.learner import NEAR_IDENTICAL, Learner, Stream, template
from gateway.cache.partition import Vector
from gateway.cache.verifier import INPUTS, inputs
from gateway.ledger.cache_evidence import CheckedPair
from routers.training.same_answer import Pairs

_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Logged:
    """Checked pairs with the unit vectors [pairs, dimensions] of what was asked and of what was cached."""

    pairs: Sequence[CheckedPair]
    asked: Vector
    cached: Vector


class LoggedLessons:
    """Logged pairs as a learner takes them. What stood beside them in the cache is not known: each stands alone."""

    def __init__(self, logged: Logged, learner: Learner, streams: Sequence[Stream]) -> None:
        names = {name: place for place, name in enumerate(learner.names)}
        cosines = np.einsum("ij,ij->i", logged.asked, logged.cached)
        alone = [
            inputs(learner.parse(pair.asked), [learner.parse(pair.cached)], cosine[None])
            for pair, cosine in zip(logged.pairs, cosines, strict=True)
        ]
        self._pairs = Pairs(
            np.concatenate([np.empty((0, len(INPUTS)), dtype=np.float32), *alone]),
            np.array([names.get(pair.topic, len(names)) for pair in logged.pairs], dtype=np.intp),
            np.array([pair.same for pair in logged.pairs], dtype=np.bool_),
        )
        self._near = _near(logged, streams)

    def of(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Those that are near-identical, on neither side, to no row but chosen ones [rows of all streams]."""
        return self._pairs.of(np.array([bool(chosen[rows].all()) for rows in self._near], dtype=np.bool_))


def _near(logged: Logged, streams: Sequence[Stream]) -> list[npt.NDArray[np.intp]]:
    """Of each pair the rows that either side is near-identical to, or of one template with."""
    vectors = np.concatenate([stream.vectors for stream in streams])
    by_template: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(row for stream in streams for row in stream.rows):
        by_template[template(row.query)].append(place)
    found = []
    for start in range(0, len(logged.pairs), _BLOCK):
        some = slice(start, start + _BLOCK)
        close = logged.asked[some] @ vectors.T >= NEAR_IDENTICAL
        close |= logged.cached[some] @ vectors.T >= NEAR_IDENTICAL
        for pair, rows in zip(logged.pairs[some], close, strict=True):
            for text in (pair.asked, pair.cached):
                rows[by_template.get(template(text), [])] = True
            found.append(np.flatnonzero(rows))
    return found
