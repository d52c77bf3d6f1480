"""What flows through routing: Query and Candidates in, Forecasts between, a Decision out, Outcomes to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from policies.catalogue import Endpoint, Modality, ModelCard

FEATURES_VERSION = 1

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """Cheap facts about a query, computed without a model.

    `tokens` is an estimate of the whole prompt; `max_output_tokens` the caller's cap, if any.
    """

    tokens: int
    chars: int
    turns: int = 1
    language: str = "en"
    code: bool = False
    tools: bool = False
    json_schema: bool = False
    logprobs: bool = False
    modalities: frozenset[Modality] = frozenset({Modality.TEXT})
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The routed question: last user text, features, embedding (shape [dim], unit norm) where one was needed.

    `facts` are those of `routers.inputs`, where they are known already.
    """

    text: str
    features: Features
    category: str = "general"
    embedding: Embedding | None = None
    features_version: int = FEATURES_VERSION
    facts: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An eligible endpoint with its model's card; `latency_ms` is observed, or the catalogue's figure before that."""

    endpoint: Endpoint
    card: ModelCard
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """A router's prediction for one candidate; quality in 0..1 with its interval, tokens, milliseconds.

    `output_tokens` is the median, of the usual ones too. Lengths are skewed, so a router that can tell says
    what to expect in the mean (`output_tokens_mean`, `usual_output_tokens_mean`; None: as the median).
    `usual_quality` and `usual_output_tokens` are what a learned router would say whatever is asked (None: it does not
    tell), `trust` in 0..1 how far the forecast may be believed beyond that (0: a query unlike all it learned).
    A router that goes on learning says what it would have said before (`prior_quality`), how sharply the best is to be
    preferred to the others (`eagerness`, of inverse gap weighting), and who learns (`learner`); None: it does not.
    """

    endpoint_id: str
    quality: float
    quality_low: float
    quality_high: float
    output_tokens: int
    output_tokens_high: int
    latency_ms: float
    usual_quality: float | None = None
    usual_output_tokens: int | None = None
    trust: float = 1.0
    prior_quality: float | None = None
    eagerness: float | None = None
    learner: str | None = None
    output_tokens_mean: int | None = None
    usual_output_tokens_mean: int | None = None

    @property
    def expected_output_tokens(self) -> int:
        """What an expected cost is reckoned with."""
        return self.output_tokens if self.output_tokens_mean is None else self.output_tokens_mean

    @property
    def usual_expected_output_tokens(self) -> int | None:
        """The same whatever is asked; None: the router does not tell."""
        return self.usual_output_tokens if self.usual_output_tokens_mean is None else self.usual_output_tokens_mean


@dataclass(frozen=True, slots=True)
class Ranked:
    """One line of a decision: the candidate, its forecast, forecast cost (nano-dollars), its score and propensity.

    `note` says why this endpoint of its model, once that was settled between several.
    """

    candidate: Candidate
    forecast: Forecast
    cost_nanousd: int
    cost_high_nanousd: int
    score: float
    propensity: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Ranking, best first as it will be tried; `ranking[0]` is the chosen one, with its propensity.

    `extra_nanousd` is what the chosen one may cost beyond the best, where it is tried for learning's sake.
    """

    ranking: tuple[Ranked, ...]
    reason: str
    router_kind: str
    policy_name: str
    policy_sha256: str
    artifact_sha256: str | None = None
    budget_multiplier: float = 1.0
    excluded: dict[str, str] = field(default_factory=dict)
    extra_nanousd: int = 0

    @property
    def chosen(self) -> Ranked:
        """The candidate that is called first."""
        return self.ranking[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A training row: what a model's answer to a query was worth and cost."""

    query_id: str
    model: str
    quality: float
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    latency_ms: float | None = None
