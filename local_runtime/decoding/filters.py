"""Pure functions on one row of logits: penalties, filters, probabilities. A removed token has logit -inf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from local_runtime.base import GenerationError
from local_runtime.decoding.base import Row

FEW = 512


class BadLogits(GenerationError):
    """The model produced NaN or no finite logit."""


def require_finite_best(logits: Row) -> None:
    """BadLogits for NaN anywhere or a best value that is not finite."""
    if not np.isfinite(logits.max()):
        raise BadLogits("the model produced no finite logits")


def repetition_penalty(logits: Row, seen: Sequence[int], penalty: float) -> Row:
    """Logits of tokens in `seen` divided by `penalty` where positive, multiplied where negative (arXiv:1909.05858)."""
    if penalty == 1.0 or not seen:
        return logits
    ids = _inside(np.unique(np.asarray(seen, dtype=np.int64)), logits)
    out = logits.copy()
    out[ids] = np.where(out[ids] > 0, out[ids] / penalty, out[ids] * penalty)
    return out


def presence_and_frequency(logits: Row, generated: Sequence[int], presence: float, frequency: float) -> Row:
    """logit - presence * [count > 0] - frequency * count, counts over generated tokens (OpenAI)."""
    if not generated or (presence == 0.0 and frequency == 0.0):
        return logits
    ids, counts = np.unique(np.asarray(generated, dtype=np.int64), return_counts=True)
    out = logits.copy()
    out[ids] -= (presence + frequency * counts).astype(np.float32)
    return out


def bias(logits: Row, biases: Mapping[int, float]) -> Row:
    """logit + bias for each named token."""
    if not biases:
        return logits
    out = logits.copy()
    out[list(biases)] += np.fromiter(biases.values(), np.float32, len(biases))
    return out


def scaled(logits: Row, temperature: float) -> Row:
    """(logits - best) / temperature: the best is 0, so even a tiny temperature cannot overflow to NaN."""
    with np.errstate(over="ignore"):
        out: Row = np.divide(logits - logits.max(), temperature, dtype=np.float64).astype(np.float32)
    return out


def top_k(logits: Row, k: int) -> Row:
    """Keep the `k` best; of equals at the border the lowest ids. 0 keeps all."""
    if k <= 0 or k >= logits.size:
        return logits
    return _only(logits, _best(logits, k))


def top_p(logits: Row, p: float) -> Row:
    """Keep the smallest set of best tokens whose probability reaches `p` (arXiv:1904.09751), at least one."""
    if p >= 1.0:
        return logits
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    wanted = p * weights.sum()
    few = min(FEW, logits.size)
    for order in (_best(logits, few), np.argsort(-logits, kind="stable")):
        reached = np.cumsum(weights[order])
        if reached[-1] >= wanted or order.size == logits.size:
            break
    count = int(np.searchsorted(reached, wanted, side="left")) + 1
    return _only(logits, order[:count])


def min_p(logits: Row, p: float) -> Row:
    """Keep tokens at least `p` times as probable as the best (arXiv:2407.01082)."""
    if p <= 0.0:
        return logits
    kept: Row = np.where(logits >= logits.max() + np.log(p), logits, np.float32(-np.inf)).astype(np.float32)
    return kept


def draw(logits: Row, uniform: float) -> int:
    """The token at `uniform` (in 0..1) of the cumulative distribution; a removed token is never drawn."""
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    cumulative = np.cumsum(weights)
    token = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(token, int(np.flatnonzero(weights)[-1]))


def log_probabilities(logits: Row) -> npt.NDArray[np.float64]:
    """Natural-log softmax, in float64."""
    shifted: npt.NDArray[np.float64] = logits.astype(np.float64) - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def best_first(logits: Row, count: int) -> list[int]:
    """Ids of the `count` best, best first; of equals the lower id first."""
    return [int(token) for token in _best(logits, min(count, logits.size))]


def _best(logits: Row, count: int) -> npt.NDArray[np.intp]:
    if count >= logits.size:
        return np.argsort(-logits, kind="stable")
    border = np.partition(logits, logits.size - count)[logits.size - count]
    above = np.flatnonzero(logits > border)
    equal = np.flatnonzero(logits == border)[: count - above.size]
    ids = np.concatenate([above, equal])
    ids.sort()
    return ids[np.argsort(-logits[ids], kind="stable")]


def _only(logits: Row, ids: npt.NDArray[np.intp]) -> Row:
    out = np.full_like(logits, -np.inf)
    out[ids] = logits[ids]
    return out


def _inside(ids: npt.NDArray[np.int64], logits: Row) -> npt.NDArray[np.int64]:
    return ids[(ids >= 0) & (ids < logits.size)]
