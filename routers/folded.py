"""What the simple learned kinds share: tuning, models known by their cards, tokens, intervals, a few more outcomes.

A kind says how it learns arrays and how these score queries; everything is kept, and served, as plain arrays.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard
from routers import roster, token_forecasts
from routers.artifact import Artifact
from routers.gate import Gate
from routers.hardness import Hardness
from routers.inputs import Floats, Inputs
from routers.learned import LearnedRouter, Progress, check, silent
from routers.predictions import ONE, ZERO, Predictions
from routers.roster import Roster
from routers.token_forecasts import WAIT_TOKENS, TokenForecasts

if TYPE_CHECKING:
    from routers.training.checkpoint import Checkpoint
    from routers.training.dataset import Dataset
    from routers.training.gating import Trust
    from routers.training.lesson import Lesson

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Settings = Mapping[str, Any]
SHARED = ("scores_usual", *token_forecasts.ARRAYS, *roster.ARRAYS)


class FoldedRouter(LearnedRouter):
    """A kind that learns `ARRAYS` and scores queries with them.

    `GRID` names the settings and the values that are tried by cross-validation (the best choices win); a caller's
    setting replaces its values.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"checkpoint"})
    GRID: ClassVar[Mapping[str, Sequence[Any]]] = {}
    ARRAYS: ClassVar[tuple[str, ...]] = ()
    # Forecasts are made to mean what they say; False where they are taken at their word, as published.
    mended: ClassVar[bool] = True

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self._arrays = artifact.arrays
        self._scores_usual = artifact.arrays["scores_usual"]
        self._hardness = Hardness.from_arrays(artifact.arrays)
        self._tokens = TokenForecasts.from_arrays(artifact.arrays)
        self._roster = Roster.of(artifact)
        gated = "gate.anchors" in artifact.arrays
        self._gate = Gate.from_arrays(artifact.arrays) if gated else None
        self._strange = np.asarray(artifact.arrays["strange"] if gated else 0.0, dtype=np.float32)

    @classmethod
    @abstractmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """`ARRAYS` from outcomes, under one choice of settings; the same arguments give the same arrays."""

    @staticmethod
    @abstractmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, Floats | None]:
        """Expected scores of the models that were learned from, [Q, M], which may leave 0..1; and the logarithm of
        output tokens beyond each model's usual, [Q, M], or None where the forecast that all kinds share is used."""

    @classmethod
    def tune(
        cls, fitted: Lesson, unseen: Lesson, settings: Settings, seed: int, progress: Progress, kept: Checkpoint
    ) -> Settings:
        """The settings that do best on queries that were not learned from, of those that are tried; what an interrupted
        run has tried is `kept`."""
        from routers.training.folding import grid_search
        from routers.training.lesson import joined

        whole = fitted if fitted is unseen else joined(fitted, unseen)
        return grid_search(cls, whole, settings, seed, progress, kept)

    @classmethod
    def usual(cls, arrays: Arrays, lesson: Lesson) -> Array:
        """Each model's usual score [M]: the mean of those observed."""
        return lesson.usual()

    @classmethod
    def trusted(cls, lesson: Lesson, settings: Settings, seed: int) -> Trust | None:
        """Where forecasts are to be believed; None: everywhere."""
        from routers.training.gating import trust_in

        return trust_in(cls, lesson, settings, seed) if cls.needs_embedding else None

    @classmethod
    def fit(
        cls,
        train: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        settings: Settings | None = None,
        progress: Progress = silent,
    ) -> Self:
        """See `LearnedRouter`; tunes on the validation queries, then learns from all of them."""
        from routers.training.folding import fold

        return cls.from_artifact(fold(cls, train, validation, seed, settings or {}, progress))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """See `LearnedRouter`."""
        check(artifact, cls.kind, (*cls.ARRAYS, *SHARED))
        return cls(artifact)

    def predict(self, inputs: Inputs, cards: Sequence[ModelCard]) -> Predictions:
        """See `LearnedRouter`; far from all that was learned, or without an embedding, every model is as usual."""
        plan = self._roster.plan(cards)
        trust = self._trust(inputs)
        scores, lengths = self._deviations(inputs, trust)
        quality = _between(plan.usual + plan.spread(scores))
        strangeness = ONE - trust[:, None]
        tokens = plan.tokens * np.exp(plan.spread(lengths) + strangeness * plan.lift)
        doubt = plan.doubt + strangeness * np.maximum(self._strange - plan.doubt, ZERO)
        return Predictions(
            quality=quality,
            low=np.maximum(quality - doubt, ZERO),
            high=np.minimum(quality + doubt, ONE),
            tokens=tokens,
            tokens_high=tokens * plan.high,
            latency_ms=plan.latency_per_token * (tokens + WAIT_TOKENS),
            usual=plan.usual,
            usual_tokens=plan.tokens,
            trust=trust,
            mean_ratio=plan.mean_ratio,
        )

    def with_outcomes(self, labelled: Dataset) -> Self:
        """See `LearnedRouter`; every label counts once more, so the same ones must not be given again."""
        from routers.training.lesson import lesson_of

        lesson = lesson_of(labelled)
        plan = self._roster.plan(lesson.cards)
        scores, lengths = map(plan.spread, self._deviations(lesson.inputs, self._trust(lesson.inputs)))
        roster = self._roster.taught(lesson.cards, lesson.score, lesson.log_tokens, (scores, lengths))
        facts = {**self.artifact.facts, "models": list(roster.ids)}
        arrays = {**self.artifact.arrays, **roster.arrays()}
        return type(self)(replace(self.artifact, arrays=arrays, facts=facts))

    def _trust(self, inputs: Inputs) -> Floats:
        """How far queries are to be believed 0..1, [Q]; 0 where there is nothing that this kind looks at."""
        if not self.needs_embedding:
            return np.ones(len(inputs), np.float32)
        if self._gate is None:
            return np.asarray(inputs.embeddings.any(axis=1), dtype=np.float32)
        return self._gate.trust(inputs.embeddings)

    def _deviations(self, inputs: Inputs, trust: Floats) -> tuple[Floats, Floats]:
        """How far scores and logarithms of tokens lie from the usual ones of the models learned from, [Q, M] both."""
        scores, lengths = self.told(self._arrays, inputs)
        if self._hardness is not None:
            scores = self._hardness.mended(scores)
        scores = scores - self._scores_usual
        if lengths is None:
            lengths = self._tokens.deviations(inputs)
        share = trust[:, None]
        return scores * share, lengths * share


def _between(scores: Floats) -> Floats:
    return np.minimum(np.maximum(scores, ZERO), ONE)
