"""The graph router: an inductive graph network of queries, latent skills and models, folded into one matrix a pool.

It is trained in `routers.training.graph`; what serves is numpy: a query's place in the graph times that matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from policies.catalogue import ModelCard
from routers.artifact import Artifact
from routers.graph_nodes import REMEMBERED, WEIGHTS
from routers.graph_pool import POOL, Graph, Pool
from routers.inputs import Floats, Inputs
from routers.learned import LearnedRouter, Progress, check, silent
from routers.linear import sigmoid
from routers.predictions import ONE, ZERO, Predictions
from routers.token_forecasts import WAIT_TOKENS

if TYPE_CHECKING:
    from routers.training.dataset import Dataset

ARRAYS = ("skills", "fine", "fine_mass", "reach", "fact_centre", "fact_scale", "gate", *WEIGHTS, *REMEMBERED, *POOL)
_MOST_LOG_TOKENS = np.array(13, dtype=np.float32)


class GraphRouter(LearnedRouter):
    """quality = usual + trust x (sigmoid(bias + deviation) - usual), the deviation being linear in the query's basis.

    Far from all queries that were learned from trust is 0: every model is as usual, and the best one for the trade-off
    is chosen.
    """

    kind: ClassVar[str] = "graph"
    takes: ClassVar[frozenset[str]] = frozenset({"checkpoint", "device"})

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self._pool = Pool(Graph.of(artifact))
        self._fine = np.ascontiguousarray(self._pool.graph.places.fine.T)
        neighbour, low, high = artifact.arrays["gate"].tolist()
        self._low, self._reach = (np.array(one, dtype=np.float32) for one in (low, max(high - low, 1e-6)))
        self._neighbour = max(len(self._fine.T) - int(neighbour), 0)

    @classmethod
    def fit(
        cls,
        train: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        progress: Progress = silent,
    ) -> Self:
        """See `LearnedRouter`; settings are the fields of `routers.training.graph.settings.Settings`."""
        from routers.training.graph.train import train_graph

        return cls.from_artifact(train_graph(train, validation, seed, settings or {}, progress))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """See `LearnedRouter`."""
        check(artifact, cls.kind, ARRAYS)
        return cls(artifact)

    def predict(self, inputs: Inputs, cards: Sequence[ModelCard]) -> Predictions:
        """See `LearnedRouter`; without an embedding every model is forecast as usual."""
        plan = self._pool.plan(cards)
        cosines: Floats = inputs.embeddings @ self._fine
        trust = self._trust(inputs, cosines)[:, None]
        whole, hidden = self._pool.basis(inputs, cosines)
        found = whole @ plan.maps
        count = len(plan.cards)
        quality = plan.usual + trust * (sigmoid(found[:, :count] + plan.bias) - plan.usual)
        beyond = trust * found[:, count:] + (ONE - trust) * plan.lift
        tokens = plan.usual_tokens * np.exp(np.minimum(beyond, _MOST_LOG_TOKENS))
        gap = np.logaddexp(ZERO, hidden @ plan.gap)
        return Predictions(
            quality=quality,
            low=np.maximum(quality - plan.doubt, ZERO),
            high=np.minimum(quality + plan.doubt, ONE),
            tokens=tokens,
            tokens_high=tokens * np.exp(np.minimum(gap, _MOST_LOG_TOKENS)),
            latency_ms=plan.latency_per_token * (tokens + WAIT_TOKENS),
            usual=plan.usual,
            usual_tokens=plan.usual_tokens,
            trust=trust[:, 0],
            mean_ratio=plan.mean_ratio,
        )

    def with_outcomes(self, labelled: Dataset) -> Self:
        """See `LearnedRouter`; every label counts once more, so the same ones must not be given again."""
        with np.errstate(invalid="ignore", divide="ignore"):
            log_tokens = np.log(np.maximum(labelled.output_tokens, 1)).astype(np.float64)
        taught = self._pool.taught(labelled.models, labelled.inputs, labelled.score.astype(np.float64), log_tokens)
        facts = {**self.artifact.facts, "models": list(taught.ids)}
        arrays = {**self.artifact.arrays, **taught.arrays()}
        return type(self).from_artifact(replace(self.artifact, arrays=arrays, facts=facts))

    def _trust(self, inputs: Inputs, cosines: Floats) -> Floats:
        """0..1 by the cosine to a near fine node, [Q]; 0 for queries without an embedding."""
        near = np.partition(cosines, self._neighbour, axis=1)[:, self._neighbour]
        bounded: Floats = np.minimum(np.maximum((near - self._low) / self._reach, ZERO), ONE)
        return np.where(inputs.embeddings.any(axis=1), bounded, ZERO)
