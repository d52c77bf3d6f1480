"""The seam of router kinds that learn: the same class is fitted offline, folded to arrays, and serves.

A kind writes `fit`, `predict` and the two ways to and from an artifact; `LearnedRouter` makes a `Router` of that.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from policies.catalogue import ModelCard
from policies.schema import RouterSpec
from routers.artifact import Artifact, ArtifactError
from routers.decision import FEATURES_VERSION, Candidate, Forecast, Query
from routers.inputs import Inputs, inputs_of
from routers.predictions import Predictions
from routers.prior import latency_factor

if TYPE_CHECKING:
    from routers.training.dataset import Dataset

# Told how far a fit is: a share in 0..1 and what is being done.
Progress = Callable[[float, str], None]


def silent(share: float, what: str) -> None:
    """The progress that nobody looks at."""


class LearnedRouter(ABC):
    """A `Router` that forecasts from an artifact; immutable once built, so that threads may share it.

    Models are known by their cards: a model that was not there in training is forecast from its card alone. Serving
    imports neither torch nor scikit-learn: only `fit` may, inside.
    """

    kind: ClassVar[str]
    needs_embedding: ClassVar[bool] = True

    artifact: Artifact

    @classmethod
    @abstractmethod
    def fit(
        cls,
        train: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Learn; the same arguments give the same artifact. `ValueError` says which data or setting can't be used.

        Without `validation` a kind that tunes itself splits `train` by its groups.
        """

    @classmethod
    @abstractmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Build from arrays; raises `ArtifactError` naming what is missing or does not fit."""

    @abstractmethod
    def predict(self, inputs: Inputs, cards: Sequence[ModelCard]) -> Predictions:
        """Forecasts of all pairs, rows and columns in the order given; pure."""

    def with_outcomes(self, labelled: Dataset) -> Self:
        """The same router knowing a few more outcomes, of old or new models, without training; unchanged by default."""
        return self

    @classmethod
    def from_spec(cls, spec: RouterSpec) -> Self:
        """Refuses: what was learned is in an artifact, which `routers.find.load_router` reads."""
        raise ValueError(f"kind '{cls.kind}' needs the key 'artifact', such as artifact = \"default\"")

    def forecast(self, query: Query, candidates: Sequence[Candidate]) -> list[Forecast]:
        """See `Router`; one row of `predict`, with the caller's cap on output and the endpoints' own latency."""
        if not candidates:
            return []
        told = self.predict(inputs_of(query, self.artifact.dimensions), [one.card for one in candidates])
        trust = float(told.trust[0])
        columns = zip(
            candidates,
            *(array[0].tolist() for array in (told.quality, told.low, told.high, told.tokens, told.tokens_high)),
            told.usual.tolist(),
            told.usual_tokens.tolist(),
            strict=True,
        )
        return [
            _forecast(query, one, quality, (low, high), (tokens, tokens_high), (usual, usual_tokens), trust)
            for one, quality, low, high, tokens, tokens_high, usual, usual_tokens in columns
        ]

    def reason(self, query: Query) -> str:
        """What was learned from, and whether this query could be placed."""
        if query.embedding is None:
            return f"The {self.kind} router has no embedding of this query and takes each model's usual quality."
        data = self.artifact.data
        return f"The {self.kind} router forecasts from {data.get('queries', 'many')} judged queries."


def check(artifact: Artifact, kind: str, arrays: Sequence[str]) -> None:
    """Raise `ArtifactError` unless it is of this kind, of today's features, and has these arrays."""
    if artifact.kind != kind:
        raise ArtifactError(f"the artifact is of kind '{artifact.kind}', the policy's router is '{kind}'")
    if artifact.features_version != FEATURES_VERSION:
        raise ArtifactError(
            f"the artifact was trained on features version {artifact.features_version}, this is {FEATURES_VERSION}:"
            " train it anew"
        )
    missing = [name for name in arrays if name not in artifact.arrays]
    if missing:
        raise ArtifactError(f"the artifact lacks the arrays {', '.join(missing)}: train it anew")


def _forecast(
    query: Query,
    candidate: Candidate,
    quality: float,
    bounds: tuple[float, float],
    tokens: tuple[float, float],
    usual: tuple[float, float],
    trust: float,
) -> Forecast:
    card, cap = candidate.card, query.features.max_output_tokens
    limit = card.max_output_tokens or card.context_tokens
    if cap is not None and cap < limit:
        limit = cap
    median = min(max(round(tokens[0]), 1), limit)
    return Forecast(
        endpoint_id=candidate.endpoint.id,
        quality=_share(quality),
        quality_low=min(_share(bounds[0]), _share(quality)),
        quality_high=max(_share(bounds[1]), _share(quality)),
        output_tokens=median,
        output_tokens_high=min(max(round(tokens[1]), median), limit),
        latency_ms=candidate.latency_ms * latency_factor(median),
        usual_quality=_share(usual[0]),
        usual_output_tokens=min(max(round(usual[1]), 1), limit),
        trust=trust,
    )


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
