"""What a policy would have been worth, from decisions that another one took: the gate of every promotion.

Inverse propensity scoring (IPS), its self-normalised form, a reward model alone, both together (doubly robust, each row
foretold by a model of other rows), clipped forms, and bounds that hold for any reward model and any clipping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from routers.training.choices import card_cost
from routers.training.dataset import Dataset, Doubles
from routers.training.intervals import Estimate, bernstein_low, betting_low, ratio_intervals
from routers.training.logs import ROUNDING, Bools, Logs
from routers.training.reward_model import cross_fitted, features_of, fitted, folds_of
from routers.training.support import Needs, NoSupport, Support, support_of, weights_of

__all__ = ["Bounds", "Comparison", "Estimates", "NoSupport", "compare", "dearest_call", "evaluate"]

# The bounds take the best of these clipping levels and pay for having looked at all of them.
CLIPS = (1.0, 3.0, 10.0, 30.0)
FOLDS = 5
_METHODS = ("ips", "snips", "clipped_ips", "direct", "dr", "clipped_dr")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Both ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """A policy's mean reward by each method, with bootstrap intervals of level 1 - delta, and what bears them.

    `direct` is the reward model alone: it has no variance to speak of and whatever bias the model has. `dr` is the one
    to read. `bernstein` and `betting` each enclose the value with probability 1 - delta, for any number of rows and
    whatever the reward model says (choices without support count as the worst and as the best possible reward).
    """

    support: Support
    ips: Estimate
    snips: Estimate
    clipped_ips: Estimate
    direct: Estimate
    dr: Estimate
    clipped_dr: Estimate
    bernstein: Bounds
    betting: Bounds
    delta: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much more a new policy is worth than an old one, on the same logs.

    `difference` is doubly robust with a bootstrap interval of level 1 - delta. The true difference is above `low` with
    probability 1 - delta (one-sided, by betting), for any number of rows: promote where `low` is above 0.
    `bernstein_low` is the same by Maurer & Pontil's inequality, which is wider.
    """

    new: Support
    old: Support
    difference: Estimate
    low: float
    bernstein_low: float
    delta: float

    @property
    def better(self) -> bool:
        """Whether the new policy is proved to be worth more."""
        return self.low > 0


def evaluate(
    logs: Logs,
    target: Doubles,
    *,
    delta: float = 0.05,
    clip: float | None = None,
    sloped: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    needs: Needs | None = None,
) -> Estimates:
    """The value of a policy with probabilities `target` [N, M] for the logged decisions.

    Decisions without reward are left out: what is estimated is the value on judged traffic. `clip` bounds the weights
    of the clipped forms (the square root of the rows unless given), `sloped` lets the reward model look at contexts
    (else at models only). Raises `NoSupport` instead of a number where the logs bear too little on the policy, and
    `ValueError` for probabilities that are none.
    """
    judged, target, share = _judged(logs, target)
    weights = weights_of(judged, target)
    support = support_of(judged, target, weights, share, needs or Needs())
    if support.reason is not None:
        raise NoSupport(support)
    reward, features = _scaled(judged), features_of(judged)
    told = cross_fitted(judged, features, reward, folds_of(judged, FOLDS, seed), sloped)
    clipped = np.minimum(weights, math.sqrt(len(judged)) if clip is None else clip)
    model, rest = (target * told).sum(axis=1), reward - told[np.arange(len(judged)), judged.chosen]
    above = np.stack(
        [weights * reward, weights * reward, clipped * reward, model, model + weights * rest, model + clipped * rest], 1
    )
    below = np.ones_like(above)
    below[:, 1] = weights
    found = ratio_intervals(above, below, groups=judged.groups, delta=delta, resamples=resamples, seed=seed)
    nobody = np.zeros_like(target)
    lows = difference_lows(judged, features, target, nobody, delta=delta / 2, sloped=sloped, seed=seed)
    highs = difference_lows(judged, features, nobody, target, delta=delta / 2, sloped=sloped, seed=seed)
    estimates = {name: _unscaled(judged, one) for name, one in zip(_METHODS, found, strict=True)}
    floor, ceiling = judged.bounds
    return Estimates(
        support,
        **estimates,
        bernstein=Bounds(max(_value(judged, lows.bernstein), floor), min(_value(judged, -highs.bernstein), ceiling)),
        betting=Bounds(max(_value(judged, lows.betting), floor), min(_value(judged, -highs.betting), ceiling)),
        delta=delta,
    )


def compare(
    logs: Logs,
    new: Doubles,
    old: Doubles,
    *,
    delta: float = 0.05,
    sloped: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    needs: Needs | None = None,
) -> Comparison:
    """The difference between two policies' values, each given by its probabilities [N, M] for the logged decisions.

    Where both do the same nothing is uncertain. Raises `NoSupport` where the logs bear too little on either.
    """
    judged, new, share = _judged(logs, new)
    _, old, _ = _judged(logs, old)
    supports = [support_of(judged, one, weights_of(judged, one), share, needs or Needs()) for one in (new, old)]
    for support in supports:
        if support.reason is not None:
            raise NoSupport(support)
    reward, features = _scaled(judged), features_of(judged)
    told = cross_fitted(judged, features, reward, folds_of(judged, FOLDS, seed), sloped)
    apart = new - old
    every = np.arange(len(judged))
    rest = reward - told[every, judged.chosen]
    terms = (apart * told).sum(axis=1) + apart[every, judged.chosen] / judged.propensity * rest
    (found,) = ratio_intervals(
        terms[:, None], np.ones((len(judged), 1)), groups=judged.groups, delta=delta, resamples=resamples, seed=seed
    )
    scale = judged.bounds[1] - judged.bounds[0]
    lows = difference_lows(judged, features, new, old, delta=delta, sloped=sloped, seed=seed)
    difference = Estimate(found.value * scale, found.low * scale, found.high * scale)
    low, wide = (max(one, -1.0) * scale for one in (lows.betting, lows.bernstein))
    return Comparison(supports[0], supports[1], difference, low, wide, delta)


@dataclass(frozen=True, slots=True)
class Lows:
    """Lower bounds of a difference, each alone with probability 1 - delta: Maurer & Pontil's, and a gambler's."""

    bernstein: float
    betting: float


def dearest_call(data: Dataset, cap_usd: float | None = None) -> float:
    """The most, in USD, that one of the logged calls could have cost: known before any of them was made.

    It follows from prompts, prices and the cards' limits of output, whoever is asked; the greatest cost in the logs is
    no such bound, since a dearer call may be to come. A policy's own cap on a call may be lower: costs beyond it are
    then to be counted as the cap. `ValueError` names a model that cost more than any card allows.
    """
    given = np.where(np.isnan(data.input_tokens), data.inputs.tokens[:, None], data.input_tokens)
    limits = [float(card.longest_output) for card in data.models]
    most = card_cost(data.models, given, np.broadcast_to(np.array(limits, dtype=np.float32), given.shape))
    bound = float(most.max(initial=0.0))
    cost = np.where(data.observed, data.cost_usd, np.nan)
    if np.nanmax(cost, initial=0.0) > bound:
        row, place = np.unravel_index(int(np.nanargmax(cost)), cost.shape)
        raise ValueError(
            f"query '{data.query_ids[row]}' cost {cost[row, place]:.6g} USD at '{data.models[place].id}', more than"
            f" any card allows ({bound:.6g}): correct its price or max_output_tokens in the catalogue"
        )
    return bound if cap_usd is None else min(bound, cap_usd)


def difference_lows(
    logs: Logs, features: Doubles, new: Doubles, old: Doubles, *, delta: float, sloped: bool, seed: int
) -> Lows:
    """Lower bounds of value(new) - value(old), for rewards scaled to 0..1; all rows must be judged.

    `features` [N, d] are the reward model's. Either policy may be all zeros, which is worth 0. The reward model is
    fitted on one fold and the bounds taken on the others, so that their terms are independent; the clipping levels
    share delta, or the gambler's money.
    """
    kinds = _terms(logs, features, new, old, sloped, seed)
    each = delta / len(kinds)
    return Lows(
        max(one.offset + bernstein_low(one.values, one.width, each) for one in kinds),
        kinds[0].offset + betting_low([one.values for one in kinds], [one.least for one in kinds], delta, seed),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """Independent numbers whose expectation plus `offset` is at most the difference, none under `least`."""

    values: Doubles
    least: float
    width: float
    offset: float


def _terms(logs: Logs, features: Doubles, new: Doubles, old: Doubles, sloped: bool, seed: int) -> list[_Terms]:
    reward = _scaled(logs)
    if logs.logged is None:
        return [_blind_terms(logs, reward, new, old, clip) for clip in CLIPS]
    learned = folds_of(logs, FOLDS, seed) == 0
    model = fitted(features[learned], logs.chosen[learned], reward[learned], len(logs.models), sloped)
    rest = ~learned
    told, kept = model.foretell(features[rest]), logs.rows(rest)
    return [_seeing_terms(kept, reward[rest], told, new[rest], old[rest], clip) for clip in CLIPS]


def _seeing_terms(logs: Logs, reward: Doubles, told: Doubles, new: Doubles, old: Doubles, clip: float) -> _Terms:
    """Doubly robust with clipped weights, where the whole logged distribution is known.

    What clipping cuts off is known for each row: cut gains count as reward 0, cut losses as reward 1. So the terms'
    expectation is never above the difference.
    """
    assert logs.logged is not None  # noqa: S101 - the caller has looked
    room, apart = clip * logs.logged, new - old
    kept = np.clip(apart, -room, room)
    every = np.arange(len(logs))
    weight = kept[every, logs.chosen] / logs.propensity
    lost = np.maximum(kept - apart, 0.0).sum(axis=1)
    terms = (kept * told).sum(axis=1) - lost + weight * (reward - told[every, logs.chosen])
    below, above = float(old.any()), float(new.any())
    return _grouped(logs, terms, -below - clip, below + above + 2 * clip, 0.0)


def _blind_terms(logs: Logs, reward: Doubles, new: Doubles, old: Doubles, clip: float) -> _Terms:
    """With clipped weights alone: value(new) >= E min(w, c) r and value(old) <= 1 - E min(w, c) (1 - r).

    One term of both lies between 0 and clip. An `old` of zeros is worth 0 and is left out, as is such a `new`.
    """
    gained = np.minimum(weights_of(logs, new), clip) * reward
    spared = np.minimum(weights_of(logs, old), clip) * (1 - reward)
    return _grouped(logs, gained + spared, 0.0, clip, -float(old.any()))


def _grouped(logs: Logs, terms: Doubles, least: float, width: float, offset: float) -> _Terms:
    """Rows of one group are summed into one term, since they are not independent."""
    if logs.groups is None:
        return _Terms(terms, least, width, offset)
    _, numbers, sizes = np.unique(logs.groups, return_inverse=True, return_counts=True)
    scale = len(sizes) / len(terms)
    most = float(sizes.max()) * scale
    sums: Doubles = np.bincount(numbers, weights=terms).astype(np.float64)
    return _Terms(sums * scale, least * most, width * most, offset)


def _judged(logs: Logs, target: Doubles) -> tuple[Logs, Doubles, float]:
    target = np.asarray(target, dtype=np.float64)
    if target.shape != (len(logs), len(logs.models)):
        raise ValueError(f"the policy's probabilities have shape {target.shape}, not {(len(logs), len(logs.models))}")
    wrong = ~((target >= 0).all(axis=1) & (np.abs(target.sum(axis=1) - 1) <= ROUNDING * target.shape[1] + 1e-9))
    if wrong.any():
        raise ValueError(f"decision {int(np.argmax(wrong))}: the policy's probabilities are not all there or not sum 1")
    judged: Bools = logs.judged
    if judged.sum() < 2:
        raise ValueError("fewer than two of the logged decisions have a reward")
    return (logs if judged.all() else logs.rows(judged)), target[judged], float(judged.mean())


def _scaled(logs: Logs) -> Doubles:
    low, high = logs.bounds
    return (logs.reward - low) / (high - low)


def _value(logs: Logs, scaled: float) -> float:
    low, high = logs.bounds
    return low + scaled * (high - low)


def _unscaled(logs: Logs, one: Estimate) -> Estimate:
    low, high = logs.bounds
    ends = (min(max(_value(logs, end), low), high) for end in (one.low, one.high))
    return Estimate(_value(logs, one.value), *ends)
