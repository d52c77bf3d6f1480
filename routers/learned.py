"""The seam of router kinds that learn: the same class is fitted offline, folded to arrays, and serves.

A kind writes `fit`, `predict` and the two ways to and from an artifact; `LearnedRouter` makes a `Router` of that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from policies.catalogue import ModelCard
from policies.schema import RouterSpec
from routers.artifact import Artifact, ArtifactError
from routers.decision import FEATURES_VERSION, Candidate, Forecast, Query
from routers.inputs import Inputs, inputs_of
from routers.many import maker
from routers.predictions import Predictions
from routers.prior import latency_factor

if TYPE_CHECKING:
    from routers.training.dataset import Dataset

_made = maker(Forecast)
_NONE, _ALL = np.float32(0), np.float32(1)
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
    # The setting that names the kind whose forecasts it passes on; judging all kinds leaves such a one out.
    wraps: ClassVar[str | None] = None
    # Settings that training fills in by itself where a kind has them: "device", "checkpoint".
    takes: ClassVar[frozenset[str]] = frozenset()

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
        return forecasts_of(query, candidates, told)

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


def forecasts_of(
    query: Query,
    candidates: Sequence[Candidate],
    told: Predictions,
    prior: Sequence[float] | None = None,
    eagerness: float | None = None,
    learner: str | None = None,
) -> list[Forecast]:
    """One row of predictions, candidate by candidate: whole arrays first, since fifty candidates have little time.

    `prior`, `eagerness` and `learner` are a bandit's.
    """
    cap, count = query.features.max_output_tokens, len(candidates)
    shares = np.empty((4, count), dtype=np.float32)
    shares[0], shares[1], shares[2], shares[3] = told.quality[0], told.low[0], told.high[0], told.usual
    np.fmin(np.fmax(shares, _NONE, out=shares), _ALL, out=shares)
    np.minimum(shares[1], shares[0], out=shares[1])
    np.maximum(shares[2], shares[0], out=shares[2])
    *qualities, usual = shares.tolist()
    limits = np.array([one.card.longest_output for one in candidates], dtype=np.float64)
    if cap is not None:
        limits = np.minimum(limits, cap)
    written = np.empty((5, count))
    written[0], written[1], written[2] = told.tokens[0], told.tokens_high[0], told.usual_tokens
    np.multiply(written[0:3:2], told.mean_ratio, out=written[3:])
    np.fmin(np.fmax(np.rint(written, out=written), 1.0, out=written), limits, out=written)
    np.maximum(written[1], written[0], out=written[1])
    tokens, tokens_high, usual_tokens, *means = written.astype(np.int64).tolist()
    latencies = (latency_factor(written[0]) * np.array([one.latency_ms for one in candidates])).tolist()
    ids = [one.endpoint.id for one in candidates]
    trust = repeat(min(max(float(told.trust[0]), 0.0), 1.0))
    before: Iterable[float | None] = repeat(None) if prior is None else prior
    lists = (*qualities, tokens, tokens_high, latencies, usual, usual_tokens, trust, before)
    return _made(ids, *lists, repeat(eagerness), repeat(learner), *means)
