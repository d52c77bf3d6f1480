"""Calls in rounds: another kind's forecasts, and a learned policy that stops, goes on to another model, or votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from policies.catalogue import ModelCard
from routers.artifact import Artifact, ArtifactError
from routers.cascade_learned import LearnedCascade, Projection
from routers.cascade_policy import MAX_ROUNDS
from routers.cascade_value import ACTION_FEATURES, ANSWER_FEATURES, HINTS, PROJECTIONS, CascadeValue, network
from routers.find import router_class
from routers.inputs import Inputs
from routers.learned import LearnedRouter, Progress, check, silent
from routers.predictions import Predictions

if TYPE_CHECKING:
    from routers.training.dataset import Dataset

_BASE = "base/"
_DEFAULT_BASE = "logistic"


class Cascade(LearnedRouter):
    """A base router's forecasts, and `policy`, a `CascadePolicy` for the rounds of a request.

    Taken for one call, it forecasts what its base does: a forecast is of one model's own answer. What beginning with a
    model is worth depends on the weight of cost, so `policy.next` tells it, given no steps. Settings: `base` (kind,
    default "logistic"), `base_settings`, `folds`, `max_rounds`, and those of `routers.training.cascade.learn.Plan`.
    """

    kind: ClassVar[str] = "cascade"
    wraps: ClassVar[str | None] = "base"

    def __init__(self, artifact: Artifact, base: LearnedRouter, policy: LearnedCascade) -> None:
        self.artifact = artifact
        self.base = base
        self.policy = policy

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
        """See `LearnedRouter`; where rounds don't pay on validation queries, the policy never calls twice."""
        from routers.training.cascade.train import train_cascade

        given = dict(settings or {})
        base = learned_class(str(given.pop("base", _DEFAULT_BASE)))
        router, policy, metrics = train_cascade(base, train, validation, seed, given, progress)
        return cls.made_of(router, policy, metrics, seed)

    @classmethod
    def made_of(cls, base: LearnedRouter, policy: LearnedCascade, metrics: Mapping[str, Any], seed: int) -> Self:
        """Base and policy packed in one artifact."""
        value, inner = policy.value, base.artifact
        arrays = {
            **{_BASE + name: array for name, array in inner.arrays.items()},
            "projection/centre": policy.projection.centre,
            "projection/directions": policy.projection.directions,
            **value.answers.arrays("answers"),
        }
        for place, gain in enumerate(value.gains):
            arrays |= gain.arrays(f"gain{place}")
        facts = {
            "base": {"kind": inner.kind, "facts": dict(inner.facts)},
            "rounds": policy.rounds,
            "margin": policy.margin,
            "trust": list(value.trust),
            "learned_hints": list(policy.learned_hints),
        }
        artifact = replace(inner, kind=cls.kind, arrays=arrays, facts=facts, metrics=dict(metrics), seed=seed)
        return cls(artifact, base, policy)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """See `LearnedRouter`."""
        check(artifact, cls.kind, ("projection/centre", "projection/directions"))
        try:
            told = artifact.facts["base"]
            policy = _policy(artifact)
            inner = {
                name.removeprefix(_BASE): array for name, array in artifact.arrays.items() if name.startswith(_BASE)
            }
            base = learned_class(told["kind"]).from_artifact(
                replace(artifact, kind=told["kind"], arrays=inner, facts=told["facts"])
            )
        except ArtifactError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the cascade's artifact can't be used ({error}): train it anew") from error
        return cls(artifact, base, policy)

    def predict(self, inputs: Inputs, cards: Sequence[ModelCard]) -> Predictions:
        """The base router's."""
        return self.base.predict(inputs, cards)

    def with_outcomes(self, labelled: Dataset) -> Self:
        """The base router knows them; how rounds are valued stays."""
        base = self.base.with_outcomes(labelled)
        return self if base is self.base else self.made_of(base, self.policy, self.artifact.metrics, self.artifact.seed)


def learned_class(kind: str) -> type[LearnedRouter]:
    """The class of a kind that learns; `ValueError` for any other, and for a cascade of cascades."""
    found = router_class(kind)
    if not issubclass(found, LearnedRouter) or kind == Cascade.kind:
        raise ValueError(f"the base of a cascade must be a kind that learns, such as 'graph' or 'knn', not '{kind}'")
    return found


def _policy(artifact: Artifact) -> LearnedCascade:
    arrays, facts = artifact.arrays, artifact.facts
    trust = tuple(float(share) for share in facts["trust"])
    rounds = int(facts["rounds"])
    if not 1 <= rounds <= MAX_ROUNDS or len(trust) < rounds:
        raise ArtifactError(
            f"the artifact says rounds = {rounds}: 1 to {MAX_ROUNDS}, and a trust for each, are possible"
        )
    centre = np.asarray(arrays["projection/centre"], dtype=np.float32)
    directions = np.asarray(arrays["projection/directions"], dtype=np.float32)
    if centre.shape != (artifact.dimensions,) or directions.shape != (artifact.dimensions, PROJECTIONS):
        raise ArtifactError("the artifact's arrays 'projection/...' do not fit its dimensions: train it anew")
    value = CascadeValue(
        network(arrays, "answers", ANSWER_FEATURES),
        tuple(network(arrays, f"gain{place}", ACTION_FEATURES) for place in range(len(trust))),
        trust,
    )
    hints = tuple(bool(one) for one in facts["learned_hints"])
    if len(hints) != HINTS:
        raise ArtifactError(f"the artifact names {len(hints)} hints, this version knows {HINTS}: train it anew")
    return LearnedCascade(value, Projection(centre, directions), rounds, float(facts["margin"]), learned_hints=hints)
