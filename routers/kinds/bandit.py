"""The router that goes on learning: another router's forecast, and what feedback says of how wrong that is here.

For each model score - prior forecast = theta x context + noise, where the context is 1 and a few directions of the
query's embedding. A Bayesian linear model (Li et al. 2010, LinUCB; here around a learned prior as in PILOT, 2025) keeps
theta's mean and covariance; feedbacks fade with a half-life. It forecasts and says how eager it is to learn; whom a
request tries is `routers.exploration`'s business. It must not know where feedback comes from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from policies.catalogue import ModelCard
from routers.artifact import Array, Artifact, ArtifactError
from routers.bandit_state import Doubles, State, Tally, empty, faded
from routers.decision import Candidate, Forecast, Query
from routers.inputs import FACTS, Floats, Inputs, inputs_of
from routers.learned import LearnedRouter, Progress, check, forecasts_of, silent
from routers.predictions import ONE, ZERO, Predictions

if TYPE_CHECKING:
    from routers.training.dataset import Dataset

_PRIOR = "prior."
# Half the width of a 90 % interval in standard deviations.
_Z90 = 1.6449
_KEPT_POOLS = 64
# Standard deviations that a query may lie from the others along one direction of the context.
_FARTHEST = np.array(3, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Beliefs:
    """How wrong the prior may be and how fast what was learned fades.

    `noise` is a score's variance round its expectation. `level_std` is the least and the most that a model's level may
    be off: the least for a model that the prior knows as well as most, more for one of which it says so by a wider
    interval. `slope_std` is the same for each direction of the context. With `change_chance` a model has changed since
    the prior was fitted, its level then by `change_std` more: small residuals are taken for noise, large ones are not.
    `eagerness` scales the inverse gap weighting's sharpness, eagerness x sqrt(feedbacks that still count).
    """

    half_life_s: float = 14 * 86_400.0
    noise: float = 0.15
    level_std: tuple[float, float] = (0.03, 0.3)
    slope_std: float = 0.01
    change_std: float = 0.15
    change_chance: float = 0.05
    eagerness: float = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """Of a pool's M models: theta's means [d, M]; in squares of half a 90 % interval its covariances [d x d, M] and the
    variance of a level at first [M]."""

    mean: Floats
    covariance: Floats
    first: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Belief:
    """Means [M, d], covariances [M, d, d], and the logarithm of how well the sums fit [M], up to what all share."""

    mean: Doubles
    covariance: Doubles
    evidence: Doubles


class Bandit(LearnedRouter):
    """`prior` with what was learned since. `adopt` swaps that in one step, so that threads see the old or the new."""

    kind: ClassVar[str] = "bandit"
    wraps: ClassVar[str | None] = "prior"

    def __init__(self, artifact: Artifact, prior: LearnedRouter, beliefs: Beliefs) -> None:
        self.artifact = artifact
        # Under which what was learned is kept: other artifacts have other contexts and other residuals.
        self.learner = artifact.sha256[:16]
        self.prior = prior
        self.beliefs = beliefs
        self._centre = np.asarray(artifact.arrays["centre"], dtype=np.float32)
        self._directions = np.asarray(artifact.arrays["directions"], dtype=np.float32)
        self._usual = Inputs(
            self._centre[None],
            np.full(1, float(artifact.facts.get("usual_tokens", 100.0)), dtype=np.float32),
            np.asarray(artifact.facts.get("usual_facts", [0.0] * len(FACTS)), dtype=np.float32)[None],
        )
        self._levels: dict[str, tuple[ModelCard, float]] = {}
        self.adopt({}, 0.0)

    @property
    def dimensions(self) -> int:
        """Length of a context."""
        return 1 + int(self._directions.shape[1])

    @classmethod
    def upon(cls, prior: LearnedRouter, train: Dataset, directions: int = 8, beliefs: Beliefs | None = None) -> Self:
        """A bandit that starts from a router fitted on these queries, whose main directions make the context."""
        beliefs, inputs = beliefs or Beliefs(), train.inputs
        vectors = inputs.embeddings.astype(np.float64)
        centre = vectors.mean(axis=0)
        spread, axes = np.linalg.eigh((vectors - centre).T @ (vectors - centre) / max(len(vectors), 1))
        kept = max(min(directions, int((spread > 1e-9).sum())), 0)
        # From the largest on, signs made the same on every machine, scaled to a variance of 1.
        chosen = axes[:, ::-1][:, :kept]
        chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(kept)]) if kept else chosen
        facts: dict[str, Any] = {
            "usual_tokens": float(np.median(inputs.tokens)) if len(inputs) else 100.0,
            "usual_facts": [round(float(value), 6) for value in inputs.facts.mean(axis=0)] if len(inputs) else None,
        }
        scaled = chosen / np.sqrt(spread[::-1][:kept])
        embedder = train.embedder if kept else prior.artifact.embedder
        made = cls(_wrapped(prior.artifact, embedder, centre, scaled, beliefs, facts), prior, beliefs)
        width = float(np.median([made._interval_std(card) for card in train.models]))
        facts["usual_std"] = round(width, 6)
        return cls(_wrapped(prior.artifact, embedder, centre, scaled, beliefs, facts), prior, beliefs)

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
        """Fit the prior, a kind named by the setting `prior` (its own settings in `prior_settings`), and wrap it.

        Other settings: `directions` of the context, and the fields of `Beliefs`.
        """
        from routers.find import router_class

        given = dict(settings or {})
        kind, inner = str(given.pop("prior", "graph")), given.pop("prior_settings", None)
        directions = int(given.pop("directions", 8))
        found = router_class(kind)
        if kind == cls.kind or not issubclass(found, LearnedRouter):
            raise ValueError(f"the prior of a bandit must be a kind that learns from data, not '{kind}'")
        prior = found.fit(train, validation=validation, seed=seed, settings=inner, progress=progress)
        return cls.upon(prior, train, directions, _beliefs(given))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Of a bandit's artifact, or of any other kind's: then the context is a model's level alone."""
        from routers.find import router_class

        if artifact.kind != cls.kind:
            prior = _loaded(router_class(artifact.kind), artifact)
            none = np.zeros((artifact.dimensions, 0))
            nowhere = np.zeros(artifact.dimensions)
            return cls(_wrapped(artifact, artifact.embedder, nowhere, none, Beliefs(), {}), prior, Beliefs())
        check(artifact, cls.kind, ("centre", "directions"))
        inner = artifact.facts.get("prior")
        if not isinstance(inner, Mapping) or "kind" not in inner:
            raise ArtifactError("the artifact's facts name no prior: train it anew")
        arrays = {name[len(_PRIOR) :]: array for name, array in artifact.arrays.items() if name.startswith(_PRIOR)}
        unwrapped = replace(
            artifact,
            kind=str(inner["kind"]),
            embedder=str(inner.get("embedder", "")),
            dimensions=int(inner.get("dimensions", 0)),
            arrays=arrays,
            facts=dict(inner.get("facts", {})),
        )
        prior = _loaded(router_class(unwrapped.kind), unwrapped)
        return cls(artifact, prior, _beliefs(artifact.facts.get("beliefs", {})))

    def adopt(self, state: State, now: float) -> None:
        """Forecast from these sums from now on (Unix seconds), faded to `now`."""
        half_life = self.beliefs.half_life_s
        self._state = {model: faded(one, max(now, one.at), half_life) for model, one in state.items()}
        self._count = sum(one.count for one in self._state.values())
        self._pools: dict[tuple[str, ...], _Learned] = {}

    def go_on_from(self, other: Bandit) -> None:
        """Forecast from the other's sums, if they are of the same learner."""
        if other.learner == self.learner:
            self._state, self._count, self._pools = other._state, other._count, {}

    @property
    def half_life_s(self) -> float:
        """In which a feedback loses half its weight."""
        return self.beliefs.half_life_s

    @property
    def embedder(self) -> str:
        """Whose vectors the contexts are made of."""
        return self.artifact.embedder

    def context_of(self, embedding: Floats | None) -> Doubles:
        """[d] of one embedding; the level alone where there is none, or one of another length."""
        if embedding is None or len(embedding) != self.artifact.dimensions:
            embedding = np.zeros(self.artifact.dimensions, dtype=np.float32)
        found: Doubles = self.contexts(embedding[None])[0]
        return found

    def contexts(self, embeddings: Floats) -> Doubles:
        """[Q, d] of embeddings [Q, D]; where there is none (all zeros) the level alone counts."""
        shown = embeddings.any(axis=1, keepdims=True)
        found: Doubles = np.ones((len(embeddings), self.dimensions))
        leaning = (embeddings - self._centre) @ self._directions
        np.multiply(np.minimum(np.maximum(leaning, -_FARTHEST), _FARTHEST), shown, out=found[:, 1:])
        return found

    def predict(self, inputs: Inputs, cards: Sequence[ModelCard]) -> Predictions:
        """The prior's, corrected; intervals shrink from the prior's as a model's level and slopes become known."""
        return self._corrected(self.prior.predict(inputs, cards), inputs, cards)

    def with_outcomes(self, labelled: Dataset) -> Self:
        """The same with a prior that knows more."""
        prior = self.prior.with_outcomes(labelled)
        facts = {name: value for name, value in self.artifact.facts.items() if name not in ("prior", "beliefs")}
        return type(self)(
            _wrapped(prior.artifact, self.artifact.embedder, self._centre, self._directions, self.beliefs, facts),
            prior,
            self.beliefs,
        )

    def forecast(self, query: Query, candidates: Sequence[Candidate]) -> list[Forecast]:
        """See `Router`; with the prior's word for the log, so that late feedback knows what it was compared with."""
        if not candidates:
            return []
        inputs, cards = inputs_of(query, self.artifact.dimensions), [one.card for one in candidates]
        prior = self.prior.predict(inputs, cards)
        told = self._corrected(prior, inputs, cards)
        return forecasts_of(query, candidates, told, prior.quality[0].tolist(), self.eagerness, self.learner)

    @property
    def eagerness(self) -> float:
        """The sharpness of inverse gap weighting: the more feedbacks count, the less is left to chance."""
        return self.beliefs.eagerness * math.sqrt(max(self._count, 1.0))

    def reason(self, query: Query) -> str:
        """The prior's kind, and how much was learned since."""
        return f"The bandit corrects the {self.prior.kind} router's forecasts by {self._count:,.0f} feedbacks."

    def _corrected(self, prior: Predictions, inputs: Inputs, cards: Sequence[ModelCard]) -> Predictions:
        learned, contexts = self._learned(cards), self.contexts(inputs.embeddings).astype(np.float32)
        quality = _share(prior.quality + contexts @ learned.mean)
        squares = (contexts[:, :, None] * contexts[:, None, :]).reshape(len(contexts), len(learned.covariance))
        half = np.empty((2, *quality.shape), dtype=np.float32)
        np.subtract(prior.quality, prior.low, out=half[0])
        np.subtract(prior.high, prior.quality, out=half[1])
        # What the prior's interval says beyond the level is the query's own chance, which no feedback takes away.
        half = np.sqrt(np.maximum(half * half - learned.first, ZERO) + squares @ learned.covariance)
        return replace(
            prior,
            quality=quality,
            low=np.maximum(quality - half[0], ZERO),
            high=np.minimum(quality + half[1], ONE),
            usual=_share(prior.usual + learned.mean[0]),
        )

    def _learned(self, cards: Sequence[ModelCard]) -> _Learned:
        pools = self._pools
        names = tuple(card.id for card in cards)
        found = pools.get(names)
        if found is None:
            found = self._posterior(cards)
            if len(pools) < _KEPT_POOLS:
                pools[names] = found
        return found

    def _posterior(self, cards: Sequence[ModelCard]) -> _Learned:
        dimensions, noise = self.dimensions, self.beliefs.noise
        levels = np.array([self._level_std(card) for card in cards])
        nothing = empty(dimensions)
        tallies: list[Tally] = [self._state.get(card.id, nothing) for card in cards]
        gram = np.stack([one.gram for one in tallies]) / noise
        moment = np.stack([one.moment for one in tallies]) / noise
        stayed = _believed(gram, moment, levels**2, self.beliefs.slope_std**2)
        changed = _believed(gram, moment, levels**2 + self.beliefs.change_std**2, self.beliefs.slope_std**2)
        chance = self.beliefs.change_chance
        odds = np.log(chance / (1 - chance)) + changed.evidence - stayed.evidence
        share = 1 / (1 + np.exp(-np.clip(odds, -50.0, 50.0)))[:, None]
        mean = (1 - share) * stayed.mean + share * changed.mean
        apart = changed.mean - stayed.mean
        between = (share * (1 - share))[:, :, None] * apart[:, :, None] * apart[:, None, :]
        within = (1 - share[:, :, None]) * stayed.covariance + share[:, :, None] * changed.covariance
        square, first = _Z90**2, levels**2 + chance * self.beliefs.change_std**2
        spread = (within + between).reshape(len(cards), dimensions * dimensions)
        return _Learned(_floats(mean.T), _floats(square * spread.T), _floats(square * first))

    def _level_std(self, card: ModelCard) -> float:
        """How far a model's level may be off: more where the prior's interval for a usual query is wider than usual."""
        known = self._levels.get(card.id)
        if known is not None and known[0] is card:
            return known[1]
        usual = float(self.artifact.facts.get("usual_std", 0.0))
        least, most = self.beliefs.level_std
        beyond = max(self._interval_std(card) ** 2 - usual**2, 0.0)
        found = min(math.sqrt(least**2 + beyond), most)
        self._levels[card.id] = (card, found)
        return found

    def _interval_std(self, card: ModelCard) -> float:
        told = self.prior.predict(self._usual, [card])
        return float(told.high[0, 0] - told.low[0, 0]) / (2 * _Z90)


def _believed(gram: Doubles, moment: Doubles, level: Doubles, slope: float) -> _Belief:
    """Bayesian linear regression of each model, of sums in units of the noise, under prior variances of the level [M]
    and of every slope."""
    models, dimensions = moment.shape
    variances = np.full((models, dimensions), slope)
    variances[:, 0] = level
    precision = gram.copy()
    precision[:, range(dimensions), range(dimensions)] += 1 / variances
    covariance = np.linalg.inv(precision).astype(np.float64)
    mean = (covariance @ moment[:, :, None])[:, :, 0]
    volume = np.linalg.slogdet(precision)[1] + np.log(variances).sum(axis=1)
    return _Belief(mean, covariance, ((mean * moment).sum(axis=1) - volume) / 2)


def _share(values: Floats) -> Floats:
    """Between 0 and 1; as `np.clip`, whose own checks take longer than fifty numbers do."""
    return np.minimum(np.maximum(values, ZERO), ONE)


def _floats(array: Array) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float32)


def _beliefs(given: Mapping[str, Any]) -> Beliefs:
    """From settings or facts; `ValueError` naming the one that is wrong."""
    try:
        numbers: dict[str, Any] = {
            name: tuple(value) if name == "level_std" else float(value) for name, value in given.items()
        }
        found = Beliefs(**numbers)
    except TypeError as error:
        known = ", ".join(("prior", "prior_settings", "directions", *asdict(Beliefs())))
        raise ValueError(f"a setting of the bandit is unknown or no number ({error}); known: {known}") from error
    positive = (found.half_life_s, found.noise, *found.level_std, found.slope_std, found.change_chance)
    if len(found.level_std) != 2 or min(positive) <= 0 or min(found.eagerness, found.change_std) < 0:
        raise ValueError(
            "half_life_s, noise, level_std (least, most), slope_std and change_chance must be above 0,"
            " eagerness and change_std not below"
        )
    if found.change_chance >= 1:
        raise ValueError("change_chance must be under 1")
    return found


def _loaded(found: type[Any], artifact: Artifact) -> LearnedRouter:
    if not issubclass(found, LearnedRouter) or found is Bandit:
        raise ArtifactError(f"a bandit can't start from kind '{artifact.kind}', which learns nothing from data")
    return found.from_artifact(artifact)


def _wrapped(
    prior: Artifact,
    embedder: str,
    centre: Doubles | Floats,
    directions: Doubles | Floats,
    beliefs: Beliefs,
    facts: Mapping[str, Any],
) -> Artifact:
    arrays = {f"{_PRIOR}{name}": array for name, array in prior.arrays.items()}
    own = {"centre": np.asarray(centre, dtype=np.float32), "directions": np.asarray(directions, dtype=np.float32)}
    inner = {
        "kind": prior.kind,
        "embedder": prior.embedder,
        "dimensions": prior.dimensions,
        "facts": dict(prior.facts),
        "sha256": prior.sha256,
    }
    kept = {name: value for name, value in facts.items() if value is not None}
    believed = {**asdict(beliefs), "level_std": list(beliefs.level_std)}
    return replace(
        prior,
        kind=Bandit.kind,
        embedder=embedder,
        dimensions=len(centre),
        arrays={**arrays, **own},
        facts={**kept, "prior": inner, "beliefs": believed},
    )
