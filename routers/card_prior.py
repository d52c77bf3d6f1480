"""What models like this one did: a new model's weights over the known ones, from the facts on its card alone.

A ridge regression on card facts predicts a new model's quantity as a weighted sum of the known models' quantities. The
weights depend on cards only, so the same ones serve for the mean score, for tokens and for deviations at a query.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

PENALTIES = tuple(float(one) for one in np.logspace(-0.5, 4, 19))
# How much sharing a word counts, beside one standard deviation of a number.
_WORD_WEIGHTS = {"organisation": 0.5, "family": 1.0, "base": 1.5, "tuning": 1.0, "id": 0.5}
_ID_WORDS = re.compile(r"[a-z]+")
_NUMBERS = 6
# In standard deviations of the known models: a card of years later lies far outside of what a line was drawn through.
_FARTHEST = 3.0
# Of a mean score, where too few models are known to tell.
_DEFAULT_VARIANCE = 0.04


@dataclass(frozen=True, slots=True, eq=False)
class CardPrior:
    """Weights of any model over M known ones, from F facts of its card.

    `words` are the facts that hold or do not; `centre` and `scale` [F] standardise; `solution` [F, M] is the ridge
    smoother. `variance` is the mean square distance of a known model's mean score from what the others told of it.
    """

    words: tuple[str, ...]
    centre: Doubles
    scale: Doubles
    solution: Doubles
    variance: float

    @classmethod
    def fit(cls, cards: Sequence[ModelCard], usual: Array) -> CardPrior:
        """From the known models' cards and mean scores [M]; the penalty is what predicts left-out models best."""
        words = tuple(sorted({word for card in cards for word in _words(card)}))
        facts = np.array([_facts(card, words) for card in cards])
        centre, scale = _standard(facts, words)
        columns = np.nan_to_num((facts - centre) * scale)
        targets = np.asarray(usual, dtype=np.float64)
        if len(cards) < 3:
            return cls(words, centre, scale, np.zeros((len(centre), len(cards))), _DEFAULT_VARIANCE)
        errors = [_left_out(columns, targets, penalty) for penalty in PENALTIES]
        best = int(np.argmin(errors))
        return cls(words, centre, scale, _solution(columns, PENALTIES[best]), max(errors[best], 1e-4))

    def weights(self, cards: Sequence[ModelCard]) -> Doubles:
        """Shape [cards, M]; each row sums to 1: the mean of all known models, bent towards those alike."""
        return np.asarray(1.0 / self.solution.shape[1] + self.columns(cards) @ self.solution)

    def columns(self, cards: Sequence[ModelCard]) -> Doubles:
        """Standardised facts [cards, F], 0 where a card does not tell; none lies further out than `_FARTHEST`."""
        facts = np.array([_facts(card, self.words) for card in cards]).reshape(len(cards), len(self.centre))
        facts = np.nan_to_num((facts - self.centre) * self.scale)
        return np.asarray(np.clip(facts, -_FARTHEST, _FARTHEST))

    def usual(self, card: ModelCard, usual: Array) -> float:
        """Mean score of a new model: what those alike did, half way to the `prior_quality` that its card states.

        Half way in log odds. Prices and sizes of the known models say little of a model of other years, or of one that
        costs nothing; whoever writes a guess on the card knows more than they do, if not on the same scale.
        """
        alike = _log_odds(float(self.weights([card])[0] @ np.asarray(usual, dtype=np.float64)))
        if "prior_quality" in card.model_fields_set:
            alike = (alike + _log_odds(card.prior_quality)) / 2
        return 1 / (1 + math.exp(-alike))

    def strength(self, usual: Array) -> float:
        """How many labels the prior of a mean score is worth, where scores are right or wrong."""
        mean = float(np.clip(np.mean(usual), 0.02, 0.98))
        return float(np.clip(mean * (1 - mean) / self.variance, 2.0, 100.0))

    def arrays(self) -> dict[str, Array]:
        """For an artifact; `words` go into its facts."""
        return {
            "card_centre": self.centre,
            "card_scale": self.scale,
            "card_solution": self.solution.astype(np.float32),
            "card_variance": np.array(self.variance),
        }

    @classmethod
    def from_arrays(cls, words: Sequence[str], arrays: Mapping[str, Array]) -> CardPrior:
        """The reverse of `arrays`; raises `ValueError` where shapes do not fit each other."""
        centre, solution = arrays["card_centre"], arrays["card_solution"].astype(np.float64)
        if not len(words) + _NUMBERS == len(centre) == len(arrays["card_scale"]) == len(solution):
            raise ValueError("the card arrays do not fit the words of the cards")
        return cls(tuple(words), centre, arrays["card_scale"], solution, float(arrays["card_variance"]))


ARRAYS = ("card_centre", "card_scale", "card_solution", "card_variance")


def _words(card: ModelCard) -> list[str]:
    named = {
        "organisation": card.organisation,
        "family": card.family,
        "base": card.base_model or card.id,
        "tuning": card.tuning,
    }
    found = [f"{kind}:{name.lower()}" for kind, name in named.items() if name]
    return found + [f"id:{word}" for word in dict.fromkeys(_ID_WORDS.findall(card.id.lower()))]


def _facts(card: ModelCard, words: Sequence[str]) -> list[float]:
    """Numbers (NaN: not told), then 1 or 0 for every word."""
    own = set(_words(card))
    numbers = (
        _log(card.price_in_usd_per_mtok or None),  # what costs nothing runs at home: that tells nothing of it
        _log(card.price_out_usd_per_mtok or None),
        _log(card.params_b),
        _log(card.active_params_b or card.params_b),
        math.nan if card.open_weights is None else float(card.open_weights),
        _year(card.release),
    )
    return [*numbers, *(float(word in own) for word in words)]


def _log_odds(share: float) -> float:
    within = min(max(share, 0.01), 0.99)
    return math.log(within / (1 - within))


def _log(value: float | None) -> float:
    return math.nan if value is None else math.log(max(value, 1e-3))


def _year(release: str) -> float:
    """2024-07 as 2024.5; NaN where it is not told."""
    if not release:
        return math.nan
    year, *month = release.split("-")
    return int(year) + ((int(month[0]) - 1) / 12 if month else 0.5)


def _standard(facts: Doubles, words: Sequence[str]) -> tuple[Doubles, Doubles]:
    """Centre and scale of each fact; what is the same for all known models weighs nothing."""
    told = ~np.isnan(facts)
    count = np.maximum(told.sum(axis=0), 1)
    centre = np.where(told, facts, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(told, (facts - centre) ** 2, 0.0).sum(axis=0) / count)
    scale = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)
    # A word weighs the same whether one model has it or many: sharing a rare one says as much.
    scale[_NUMBERS:] = [_WORD_WEIGHTS[word.split(":")[0]] for word in words]
    return centre, scale


def _solution(columns: Doubles, penalty: float) -> Doubles:
    """Smoother [F, M]: centred facts of a card times this are its weights beyond 1 / M."""
    gram = columns @ columns.T
    gram.flat[:: len(gram) + 1] += penalty
    solved = np.linalg.solve(gram, columns).T
    return np.asarray(solved - solved.mean(axis=1, keepdims=True), dtype=np.float64)


def _left_out(columns: Doubles, targets: Doubles, penalty: float) -> float:
    """Mean square error for each model as told by the others (ridge's closed form)."""
    smoother = 1.0 / len(targets) + columns @ _solution(columns, penalty)
    apart = np.maximum(1 - np.diag(smoother), 1e-3)
    return float(np.mean(((targets - smoother @ targets) / apart) ** 2))
