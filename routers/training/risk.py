"""Risk control: how far may cost count, so that quality stays within a tolerated loss of a reference's, provably.

A path is a row of ever more thrifty rules, from one that is as good as the reference on. Each is tested in turn on
calibration rows, and the last before the first failure is taken (fixed-sequence testing, as in Angelopoulos et al.,
Learn then Test, 2021), so that no correction for the number of rules is needed. Losses are reference score minus score.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from routers.training.dataset import Doubles, Indices

Numbers = npt.NDArray[np.floating]
# Whether a mean loss of at most `tolerated` is certain to 1 - `delta`; `horizon` as for `controlled`.
Bound = Callable[[Doubles, float, float, "int | None"], bool]

# The part of delta that is spent on how many outcomes differ at all (Berger and Boos, 1994).
_NUISANCE = 0.05
_GRID = 4
_BETS = 24
# How much the probability of another score than the reference's counts on a path (docs/experiments/calibration.md).
AVERSION = 0.4


def controlled(
    loss: Numbers, tolerated: float, delta: float, bound: Bound | None = None, horizon: int | None = None
) -> int:
    """The place of the last rule on a path whose loss is within what is tolerated; -1 where not even the first one's.

    `loss` [L, N] are the losses, -1..1, of each rule on each calibration row. With probability 1 - `delta` over the
    rows drawn the rule's expected loss is at most `tolerated` - or, with `horizon`, its mean loss over the next
    `horizon` rows is. Holds for rows that are exchangeable with the calibration rows, and for no others.
    """
    test = bound or exact_bound
    for place, row in enumerate(loss):
        if not test(np.asarray(row, dtype=np.float64), tolerated, delta, horizon):
            return place - 1
    return len(loss) - 1


def thrifty_path(
    quality: Numbers, cost: Numbers, reference: int, steps: int = 60, aversion: float = AVERSION
) -> Indices:
    """Columns [L, Q] that ever more thrifty rules take, from forecasts [Q, M] alone; the first is nearly `reference`.

    A rule leaves the reference only for a cheaper model, where forecast quality - weight x cost - aversion x (the
    probability that the two scores differ) is higher. What differs makes the mean loss uncertain, and so takes from the
    tolerance without having to cost any quality. Any bound may be tested along the path: it looks at no outcome.
    """
    told, price = quality.astype(np.float64), cost.astype(np.float64)
    ours = told[:, [reference]]
    differ = told * (1 - ours) + ours * (1 - told)
    differ[:, reference] = 0.0
    able = price < price[:, [reference]]
    able[:, reference] = True
    weights = np.concatenate([[0.0], np.logspace(-2, 3, steps)]) / max(float(price.mean(axis=0).max()), 1e-12)
    base = np.where(able, told - aversion * differ, -np.inf)
    base[:, reference] += 1e-9  # it is kept on a tie
    return np.array([(base - weight * price).argmax(axis=1) for weight in weights])


def normal_bound(loss: Doubles, tolerated: float, delta: float, horizon: int | None = None) -> bool:
    """As if the mean were normal: not valid for small samples or rare losses, kept to be compared with."""
    from scipy.stats import norm  # type: ignore[import-untyped] # SciPy has no annotations

    count = len(loss)
    share = 1 / count + (1 / horizon if horizon else 0.0)
    return bool(loss.mean() + norm.isf(delta) * loss.std(ddof=1) * np.sqrt(share) <= tolerated)


def share_bound(wrong: float, trials: float, delta: float) -> float:
    """Clopper and Pearson's (1934) one-sided upper bound of a binomial share: too low with probability <= delta.

    Counts that are no whole numbers are effective ones, as in Korn and Graubard (1998); the bound is approximate then.
    """
    from scipy.stats import beta

    if not 0 <= wrong <= trials:
        raise ValueError(f"{wrong} of {trials}")
    return float(beta.isf(delta, wrong + 1, trials - wrong)) if wrong < trials else 1.0


def exact_bound(loss: Doubles, tolerated: float, delta: float, horizon: int | None = None) -> bool:
    """Exact for scores of 0 and 1, whose losses are -1, 0 and 1; `betting_bound` for all others.

    How many losses are not 0 is unknown: it is bounded with a twentieth of delta, and the worst number within its
    bounds counts (Berger and Boos). Given it, the sum of losses is a sum of binomials, or with a horizon of
    hypergeometrics.
    """
    if not np.isin(loss, (-1.0, 0.0, 1.0)).all():
        return betting_bound(loss, tolerated, delta, horizon)
    count, unequal, total = len(loss), int(np.count_nonzero(loss)), int(loss.sum())
    if total > tolerated * count:
        return False
    if horizon is None:
        return _exact(count, unequal, total, tolerated, delta)
    return _exact_ahead(count, unequal, total, tolerated, delta, horizon)


# Neighbouring rules of a path often differ in no loss.
@lru_cache(maxsize=65_536)
def _exact(count: int, unequal: int, total: int, tolerated: float, delta: float) -> bool:
    """The expected loss, by the binomial sum of those that are not 0."""
    from scipy.stats import beta, binom

    gamma = _NUISANCE * delta
    high = share_bound(unequal, count, gamma / 2)
    low = float(beta.ppf(gamma / 2, unequal, count - unequal + 1)) if unequal else 0.0
    if high <= tolerated:
        return True
    rates = np.linspace(max(low, tolerated), high, _GRID)[:, None]
    nonzero = _likely(count, max(low, tolerated), high)
    worse = np.clip((1 + tolerated / np.maximum(rates, 1e-12)) / 2, 0, 1)
    below = binom.cdf((nonzero + total) // 2, nonzero, worse)
    mass = binom.pmf(nonzero, count, rates)
    p = ((mass * below).sum(axis=1) + 1 - mass.sum(axis=1)).max()
    return bool(p <= delta - gamma)


@lru_cache(maxsize=65_536)
def _exact_ahead(count: int, unequal: int, total: int, tolerated: float, delta: float, horizon: int) -> bool:
    """The mean of the next `horizon` losses: those and the calibration rows are drawn together, without replacement."""
    from scipy.stats import hypergeom

    everyone, gamma = count + horizon, _NUISANCE * delta
    possible = np.arange(unequal, unequal + horizon + 1)
    inside = hypergeom.cdf(unequal, everyone, possible, count) > gamma / 2
    inside &= hypergeom.sf(unequal - 1, everyone, possible, count) > gamma / 2
    allowed = total + np.floor(horizon * tolerated + 1e-9)
    possible = possible[inside]
    worse = np.floor((allowed + possible) / 2).astype(np.int64) + 1
    able = (worse <= possible) & (worse >= 0)
    if not able.any():
        return True
    possible, worse = possible[able], worse[able]
    if len(possible) > _GRID:
        kept = np.unique(np.linspace(0, len(possible) - 1, _GRID).astype(int))
        possible, worse = possible[kept], worse[kept]
    nonzero = _likely(count, possible[0] / everyone, possible[-1] / everyone)
    below = _at_most((nonzero + total) // 2, possible[:, None], worse[:, None], nonzero)
    mass = hypergeom.pmf(nonzero, everyone, possible[:, None], count)
    p = (np.where(mass > 0, mass * np.nan_to_num(below, nan=1.0), 0).sum(axis=1) + 1 - mass.sum(axis=1)).max()
    return bool(p <= delta - gamma)


def _at_most(most: Indices, total: Indices, marked: Indices, drawn: Indices) -> Doubles:
    """The probability [K, D] that at most so many marked ones are among those drawn: hypergeometric, by its terms."""
    most, total, marked, drawn = np.broadcast_arrays(most, total, marked, drawn)
    mean = drawn * marked / np.maximum(total, 1)
    least = np.floor(mean - 7 * np.sqrt(np.maximum(mean, 1)) - 2)
    span = int(max((most - least).max(), 1)) + 1
    count = most[..., None] - np.arange(span)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int(total.max()) + 1)))])
    total, marked, drawn = total[..., None], marked[..., None], drawn[..., None]
    parts = (count, marked - count, drawn - count, total - marked - drawn + count)
    possible = np.logical_and.reduce([part >= 0 for part in parts]) & (drawn <= total)
    ways = factorial[marked] + factorial[total - marked] + factorial[np.minimum(drawn, total)]
    ways = ways + factorial[np.maximum(total - drawn, 0)] - factorial[total]
    terms = ways - sum(factorial[np.where(possible, part, 0)] for part in parts)
    found: Doubles = np.exp(np.where(possible, terms, -np.inf)).sum(axis=-1)
    return np.where((drawn <= total)[..., 0], np.minimum(found, 1.0), 1.0)


def _likely(count: int, low: float, high: float) -> npt.NDArray[np.int64]:
    """The numbers [1, K] of non-zero losses among `count` that are not next to impossible at rates `low` to `high`."""
    far = 5 * np.sqrt(count * 0.25 if low < 0.5 < high else count * max(low * (1 - low), high * (1 - high))) + 7
    return np.arange(max(int(count * low - far), 0), min(int(count * high + far), count) + 1)[None, :]


def betting_bound(loss: Doubles, tolerated: float, delta: float, horizon: int | None = None) -> bool:
    """By betting against the hypothesis that the mean is above `tolerated` (Waudby-Smith and Ramdas, JRSS B 2023).

    The capital of a gambler who bets a constant share on losses below the mean grows only if that is false; capital
    is averaged over a grid of shares, and reaches 1 / delta with a probability of at most delta. With a horizon the
    rows are drawn without replacement from themselves and those to come, as in the paper's section 5. Any losses.
    """
    values = (loss + 1) / 2
    count = len(values)
    if horizon is None:
        means = np.full(count, (tolerated + 1) / 2)
    else:
        everyone = count + horizon
        whole = values.sum() + horizon * (tolerated + 1) / 2
        drawn = np.concatenate([[0.0], np.cumsum(values)[:-1]])
        means = np.clip((whole - drawn) / (everyone - np.arange(count)), 1e-6, 1 - 1e-6)
    shares = (np.arange(_BETS) + 0.5) / _BETS
    # A bet of share / (1 - mean) is the largest that can't end in debt.
    gains = np.log1p(np.maximum(shares[:, None] / (1 - means)[None, :] * (means - values)[None, :], -1 + 1e-12))
    capital = np.cumsum(gains, axis=1)
    best = capital.max(axis=0)
    averaged = best + np.log(np.exp(capital - best).mean(axis=0))
    return bool(averaged.max() >= -np.log(delta))
