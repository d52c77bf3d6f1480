"""The models that an artifact knows, and what is known of any model by its card: usual score, tokens, doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard
from routers.artifact import Artifact, ArtifactError
from routers.card_prior import ARRAYS as CARD_ARRAYS
from routers.card_prior import CardPrior
from routers.inputs import Floats
from routers.token_forecasts import WAIT_TOKENS, lift

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

ARRAYS = ("roster", "roster_mix", *CARD_ARRAYS)
# Columns of the roster: mean score, its half interval, labels that it rests on, logarithms of median output tokens, of
# how far the 90th percentile lies above, of milliseconds, and of how far mean output tokens lie above the median.
USUAL, DOUBT, LABELS, LOG_TOKENS, HIGH, LOG_MS, MEAN = range(7)
# The last one is kept apart: artifacts made before it was known lack it, and are read as if means were medians.
_MEANS = "roster_means"
_90_PERCENT = 1.645
# Token counts that a forecast from a card is worth; lengths vary less between models than within them.
_TOKEN_LABELS = 8.0
_KEPT_PLANS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is known of C models in the order asked for; arrays [C] but `mix` [M, C].

    `latency_per_token` is milliseconds by token, written or waited (`WAIT_TOKENS`). `lift` is added to the logarithms
    of tokens as far as a query is not trusted. With `columns` all of them were learned from and these are their
    places; else deviations are mixed by `mix`.
    """

    cards: tuple[ModelCard, ...]  # held: a plan is found by the identities of its cards
    usual: Floats
    doubt: Floats
    tokens: Floats
    lift: np.float32
    high: Floats
    mean_ratio: Floats
    latency_per_token: Floats
    columns: npt.NDArray[np.intp] | None
    mix: Floats

    def spread(self, deviations: Floats) -> Floats:
        """Deviations of the models that were learned from [Q, M], for the models of this plan [Q, C]."""
        return deviations.take(self.columns, axis=1) if self.columns is not None else deviations @ self.mix


class Roster:
    """M models that were learned from, then those that were added by labels; any other is judged by its card."""

    def __init__(self, ids: Sequence[str], table: Doubles, mix: Doubles, prior: CardPrior) -> None:
        self.ids = tuple(ids)
        self._place = {name: place for place, name in enumerate(self.ids)}
        self._table = table if table.shape[1] > MEAN else np.column_stack([table, np.zeros(len(table))])
        self._mix = mix
        self.prior = prior
        self._learned = self._table[: len(ids) - len(mix)]
        self._strength = prior.strength(self._learned[:, USUAL])
        self._plans: dict[tuple[int, ...], Plan] = {}

    @classmethod
    def of(cls, artifact: Artifact) -> Roster:
        """From an artifact's arrays; raises `ArtifactError` where they do not fit each other."""
        arrays, facts = artifact.arrays, artifact.facts
        try:
            prior = CardPrior.from_arrays(facts["words"], arrays)
            ids, table, mix = list(facts["models"]), arrays["roster"], arrays["roster_mix"]
            if table.shape != (len(ids), 6) or mix.shape != (len(ids) - prior.solution.shape[1], len(ids) - len(mix)):
                raise ValueError(f"{len(ids)} models, but the roster is {table.shape} and its mix {mix.shape}")
            table = np.column_stack([table, arrays.get(_MEANS, np.zeros(len(ids)))])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ArtifactError(f"the artifact's models can't be read ({error}): train it anew") from error
        return cls(ids, table.astype(np.float64), mix.astype(np.float64), prior)

    def arrays(self) -> dict[str, Array]:
        """For an artifact; the ids go into its facts."""
        parts = {"roster": self._table[:, :MEAN], _MEANS: self._table[:, MEAN]}
        return {**parts, "roster_mix": self._mix.astype(np.float32), **self.prior.arrays()}

    def plan(self, cards: Sequence[ModelCard]) -> Plan:
        """Kept for the next call with the same cards: a pool of candidates seldom changes."""
        key = tuple(map(id, cards))
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _KEPT_PLANS:
                self._plans.clear()
            found = self._plans[key] = self._planned(tuple(cards))
        return found

    def taught(self, cards: Sequence[ModelCard], score: Array, log_tokens: Array, told: tuple[Array, Array]) -> Roster:
        """With labels of these models, [Q, C], NaN where there is none; `told` are the deviations forecast there.

        A usual score becomes (usual x labels so far + sum of the scores' rests) / all labels, a rest being the score
        without the query's own deviation; what a card alone says counts as so many labels as it proved worth.
        """
        ids, table, mix = list(self.ids), list(self._table), list(self._mix)
        rows = np.column_stack([self._row(card) for card in cards]).T
        for column, card in enumerate(cards):
            seen = ~np.isnan(score[:, column])
            if not seen.any():
                continue
            row = rows[column].copy()
            rests = score[seen, column] - told[0][seen, column]
            length = (log_tokens[:, column] - told[1][:, column])[seen & ~np.isnan(log_tokens[:, column])]
            labels = row[LABELS]
            token_labels = labels if card.id in self._place else _TOKEN_LABELS
            row[LOG_TOKENS] = (row[LOG_TOKENS] * token_labels + length.sum()) / (token_labels + len(length))
            row[USUAL] = np.clip((row[USUAL] * labels + rests.sum()) / (labels + seen.sum()), 0.0, 1.0)
            row[LABELS] = labels + seen.sum()
            if card.id in self._place:
                table[self._place[card.id]] = row
            else:
                ids.append(card.id)
                table.append(row)
                mix.append(self.prior.weights([card])[0])
        width = len(self._learned)
        return Roster(ids, np.array(table), np.array(mix).reshape(len(mix), width), self.prior)

    def _row(self, card: ModelCard) -> Doubles:
        place = self._place.get(card.id)
        if place is not None:
            return np.asarray(self._table[place])
        row: Doubles = self.prior.weights([card])[0] @ self._learned
        row[USUAL] = self.prior.usual(card, self._learned[:, USUAL])
        row[LABELS] = self._strength
        row[DOUBT] = max(row[DOUBT], 0.0)
        return row

    def _weights(self, card: ModelCard) -> Doubles:
        place, learned = self._place.get(card.id), len(self._learned)
        if place is None:
            return np.asarray(self.prior.weights([card])[0])
        return np.asarray(np.eye(1, learned, place)[0] if place < learned else self._mix[place - learned])

    def _planned(self, cards: tuple[ModelCard, ...]) -> Plan:
        rows = np.array([self._row(card) for card in cards]).reshape(len(cards), MEAN + 1)
        places = np.array([self._place.get(card.id, len(self.ids)) for card in cards], dtype=np.intp)
        share = np.clip(rows[:, USUAL], 0.02, 0.98)
        doubt = np.hypot(rows[:, DOUBT], _90_PERCENT * np.sqrt(share * (1 - share) / np.maximum(rows[:, LABELS], 1)))
        mix = np.array([self._weights(card) for card in cards]).reshape(len(cards), len(self._learned)).T
        return Plan(
            cards=cards,
            usual=_floats(rows[:, USUAL]),
            doubt=_floats(doubt),
            tokens=_floats(np.exp(rows[:, LOG_TOKENS])),
            lift=lift(rows[:, LOG_TOKENS]),
            high=_floats(np.exp(np.maximum(rows[:, HIGH], 0.0))),
            mean_ratio=_floats(np.exp(rows[:, MEAN])),
            latency_per_token=_floats(np.exp(rows[:, LOG_MS]) / (np.exp(rows[:, LOG_TOKENS]) + WAIT_TOKENS)),
            columns=places if (places < len(self._learned)).all() else None,
            mix=_floats(mix),
        )


def _floats(array: Array) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float32)
