"""Whether logs can tell anything about a policy: how much of what it would do was ever tried, and by how many rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from routers.training.dataset import Doubles
from routers.training.logs import Logs

# Standard errors that the mean weight may lie from where it must be, before the propensities are disbelieved.
_DISBELIEF = 6.0
# Standard errors that the mean weight must lie under 1 by, before choices count as never logged.
_CERTAINTY = 3.0


@dataclass(frozen=True, slots=True)
class Needs:
    """What logs must offer: so many effective rows, and at most this share of the policy's choices without support.

    A choice is without support where it was logged with a probability under `floor`.
    """

    effective_rows: float = 50.0
    unsupported_share: float = 0.05
    floor: float = 1e-4


@dataclass(frozen=True, slots=True)
class Support:
    """How far logs bear on a policy.

    `rows` are judged decisions, `judged_share` their part of all; `effective_rows` = (sum w)² / sum w² for the weights
    w = target / logged probability. `never_share` and `unsupported_share` are the parts of the policy's choices that
    were logged with probability 0 and under the floor; where only the chosen one's probability was kept the former is
    an estimate (what the mean weight lacks to 1 by more than chance). `reason` says why there is too little; None
    where there is enough.
    """

    rows: int
    judged_share: float
    effective_rows: float
    mean_weight: float
    largest_weight: float
    never_share: float
    unsupported_share: float
    reason: str | None


class NoSupport(ValueError):
    """The logs bear too little on the policy to say a number; `support` has the figures."""

    def __init__(self, support: Support) -> None:
        super().__init__(support.reason or "")
        self.support = support


def support_of(logs: Logs, target: Doubles, weights: Doubles, judged_share: float, needs: Needs) -> Support:
    """Of judged logs, with the policy's probabilities [N, M] and the weights [N] of what was chosen."""
    squares = float((weights * weights).sum())
    mean = float(weights.mean())
    error = float(weights.std()) / math.sqrt(len(weights))
    if logs.logged is None:
        thin = float((weights * (logs.propensity < needs.floor)).mean())
        never = max(1.0 - mean - _CERTAINTY * error, 0.0)
        expected, unsupported = None, never + thin
    else:
        never = float((target * (logs.logged == 0)).sum() / len(logs))
        unsupported = float((target * (logs.logged < needs.floor)).sum() / len(logs))
        expected = 1.0 - never
    effective = float(weights.sum()) ** 2 / squares if squares else 0.0
    return Support(
        rows=len(logs),
        judged_share=judged_share,
        effective_rows=effective,
        mean_weight=mean,
        largest_weight=float(weights.max()),
        never_share=never,
        unsupported_share=unsupported,
        reason=_shortage(effective, unsupported, needs) or _disbelief(mean, error, expected),
    )


def _shortage(effective: float, unsupported: float, needs: Needs) -> str | None:
    if unsupported > needs.unsupported_share:
        return (
            f"{unsupported:.1%} of the policy's choices were never or hardly tried (probability under {needs.floor:g},"
            f" {needs.unsupported_share:.1%} are allowed): explore more before judging it"
        )
    if effective < needs.effective_rows:
        return (
            f"the logs weigh as much as {effective:.0f} decisions of this policy, {needs.effective_rows:.0f} are"
            " needed: log more, or explore more"
        )
    return None


def _disbelief(mean: float, error: float, expected: float | None) -> str | None:
    """Weights must be 1 in the mean wherever all is supported; never more."""
    over = mean - 1.0
    under = 0.0 if expected is None else expected - mean
    if max(over, under) > _DISBELIEF * max(error, 1e-6) + 1e-3:
        return f"the mean weight is {mean:.3f}, which the logged propensities do not allow: they are not the true ones"
    return None


def weights_of(logs: Logs, target: Doubles) -> Doubles:
    """[N] target / logged probability of what was chosen."""
    found: Doubles = target[np.arange(len(logs)), logs.chosen] / logs.propensity
    return found
