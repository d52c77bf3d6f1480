"""The models that a graph knows: learned ones, ones added by a few labels, and any other by its card alone.

Folds the graph for a pool of candidates into one matrix, and keeps that: a pool seldom changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard
from routers.artifact import Array, Artifact, ArtifactError
from routers.card_prior import CardPrior
from routers.graph_fold import Places, basis
from routers.graph_nodes import LEAST_USUAL, MOST_USUAL, Folded, Remembered, Weights, blended, folded
from routers.inputs import FACTS, Floats, Inputs
from routers.token_forecasts import WAIT_TOKENS, lift

Doubles = npt.NDArray[np.float64]

# Columns of the table of models; DOUBT is half the 90 % interval that even many labels leave, LABELS their number,
# RATIO the logarithm of mean output tokens by median.
USUAL, LOG_TOKENS, LABELS, BIAS, DOUBT, LOG_MS, RATIO = range(7)
_WIDTH = RATIO + 1
# What a card says of a model's length counts as so many answers.
_TOKEN_LABELS = 4.0
_KEPT_PLANS = 32
_90_PERCENT = 1.645
# Fine nodes that stand for all queries where a new model's bias is sought.
_CROWD = 256
_NEWTON_STEPS = 25
POOL = ("pool.table", "pool.edges", "pool.mix", "pool.shrink")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """C candidates: maps of a query's basis [W, 2 C] and [H + 1, C], and figures [C] of what is usual.

    `latency_per_token` is milliseconds by token, written or waited (`WAIT_TOKENS`). `lift` is added to the logarithms
    of tokens as far as a query is not trusted.
    """

    cards: tuple[ModelCard, ...]
    maps: Floats
    gap: Floats
    bias: Floats
    usual: Floats
    usual_tokens: Floats
    lift: np.float32
    doubt: Floats
    latency_per_token: Floats
    mean_ratio: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Everything that an artifact holds, as arrays: A models, of which the first L were learned from.

    `table` [A, 7], `edges` [3, A, K] (mass, sums of rests of score and log tokens at the skills), `mix` [A - L, L] how
    the added ones are made of the learned ones; `shrink` scales what sets one apart by the network, and by the heads.
    """

    places: Places
    weights: Weights
    memory: Remembered
    prior: CardPrior
    ids: tuple[str, ...]
    table: Doubles
    edges: Doubles
    mix: Doubles
    shrink: tuple[float, float]

    @property
    def learned(self) -> int:
        """How many models were learned from."""
        return len(self.ids) - len(self.mix)

    def arrays(self) -> dict[str, Array]:
        """For an artifact; `ids` and the prior's words go into its facts."""
        return {
            **self.places.arrays(),
            **self.weights.arrays(),
            **self.memory.arrays(),
            **self.prior.arrays(),
            "pool.table": self.table,
            "pool.edges": self.edges.astype(np.float32),
            "pool.mix": self.mix,
            "pool.shrink": np.array(self.shrink, dtype=np.float64),
        }

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """From an artifact; raises `ArtifactError` where its arrays do not fit each other."""
        arrays, facts = artifact.arrays, artifact.facts
        try:
            made = cls(
                places=Places.from_arrays(arrays),
                weights=Weights.from_arrays(arrays),
                memory=Remembered.from_arrays(arrays),
                prior=CardPrior.from_arrays(facts["words"], arrays),
                ids=tuple(facts["models"]),
                table=np.asarray(arrays["pool.table"], dtype=np.float64),
                edges=np.asarray(arrays["pool.edges"], dtype=np.float64),
                mix=np.asarray(arrays["pool.mix"], dtype=np.float64),
                shrink=(float(arrays["pool.shrink"][0]), float(arrays["pool.shrink"][1])),
            )
            made._check()
        except (ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"the artifact's graph can't be read ({error}): train it anew") from error
        return made

    def _check(self) -> None:
        models, skills = len(self.ids), len(self.places.skills)
        wanted = {
            "pool.table": (self.table.shape, (models, _WIDTH)),
            "pool.edges": (self.edges.shape, (3, models, skills)),
            "pool.mix": (self.mix.shape, (len(self.mix), self.learned)),
            "memory.own": (self.memory.own.shape[1], self.learned),
            "memory.heads": (self.memory.heads.shape, self.memory.own.shape),
            "memory.fine": (self.memory.fine.shape, (len(self.places.fine), self.learned)),
            "net.sent": (self.weights.sent.shape[1], skills),
            "net.first": (self.weights.first.shape[1], len(self.memory.own) - 1),
            "card_solution": (self.prior.solution.shape[1], self.learned),
        }
        for name, (found, expected) in wanted.items():
            if found != expected:
                raise ArtifactError(f"the array {name} is {found}, {expected} is expected: train the artifact anew")

    def side_by_side(self) -> tuple[Floats, Floats]:
        """The members' first layers next to each other: [P, E x H] and [K, E x H]."""
        return np.concatenate(list(self.weights.first), axis=1), np.concatenate(list(self.weights.sent), axis=1)


class Pool:
    """Plans for pools of candidates; safe to share between threads (a plan made twice is the same)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._place = {name: place for place, name in enumerate(graph.ids)}
        self._strength = graph.prior.strength(graph.table[: graph.learned, USUAL])
        self._plans: dict[tuple[int, ...], Plan] = {}
        self.first, self.sent = graph.side_by_side()

    def plan(self, cards: Sequence[ModelCard]) -> Plan:
        """What the graph is for these candidates."""
        key = tuple(map(id, cards))
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _KEPT_PLANS:
                self._plans.clear()
            found = self._plans[key] = self._planned(tuple(cards))
        return found

    def basis(self, inputs: Inputs, cosines: Floats) -> tuple[Floats, Floats]:
        """See `graph_fold.basis`."""
        return basis(self.graph.places, self.first, self.sent, inputs, cosines)

    def taught(self, cards: Sequence[ModelCard], inputs: Inputs, score: Array, log_tokens: Array) -> Graph:
        """The graph with labels [Q, C] of these models (NaN: none) as further edges.

        A usual score becomes (usual x labels so far + sum of the scores' rests) / all labels, a rest being the score
        without the query's own deviation; what a card alone says counts as so many labels as it proved worth. Then the
        rests from that go to the skills of their queries.
        """
        graph = self.graph
        ids, table, mix = list(graph.ids), list(graph.table), list(graph.mix)
        edges = [list(one) for one in graph.edges]
        plan = self.plan(cards)
        whole, _ = self.basis(inputs, inputs.embeddings @ graph.places.fine.T)
        deviations, lengths = np.split(whole @ plan.maps, 2, axis=1)
        told = _sigmoid(plan.bias + deviations) - plan.usual
        membership = graph.places.membership(inputs).astype(np.float64)
        for column, card in enumerate(cards):
            seen = ~np.isnan(score[:, column])
            if not seen.any():
                continue
            place = self._place.get(card.id)
            row = self._row(card).copy()
            rests = score[seen, column] - told[seen, column]
            known = seen & ~np.isnan(log_tokens[:, column])
            token_labels = _TOKEN_LABELS if place is None else row[LABELS]
            row[LOG_TOKENS] *= token_labels
            row[LOG_TOKENS] += (log_tokens[known, column] - lengths[known, column]).sum()
            row[LOG_TOKENS] /= token_labels + known.sum()
            before = row[USUAL]
            row[USUAL] = np.clip((before * row[LABELS] + rests.sum()) / (row[LABELS] + seen.sum()), 0.001, 0.999)
            row[LABELS] += seen.sum()
            fresh = (
                membership[seen].sum(axis=0),
                (score[seen, column] - row[USUAL]) @ membership[seen],
                (log_tokens[known, column] - row[LOG_TOKENS]) @ membership[known],
            )
            if place is None:
                row[BIAS] = np.nan
                ids.append(card.id)
                table.append(row)
                mix.append(graph.prior.weights([card])[0])
                for one, sums in zip(edges, fresh, strict=True):
                    one.append(sums)
            else:
                row[BIAS] += _logit(row[USUAL]) - _logit(before)
                table[place] = row
                for one, sums in zip(edges, fresh, strict=True):
                    one[place] = one[place] + sums
        return replace(
            graph,
            ids=tuple(ids),
            table=np.array(table),
            edges=np.array(edges),
            mix=np.array(mix).reshape(len(mix), graph.learned),
        )

    def _row(self, card: ModelCard) -> Doubles:
        place = self._place.get(card.id)
        if place is not None:
            known: Doubles = self.graph.table[place]
            return known
        row: Doubles = self.graph.prior.weights([card])[0] @ self.graph.table[: self.graph.learned]
        usual = self.graph.prior.usual(card, self.graph.table[: self.graph.learned, USUAL])
        row[USUAL] = np.clip(usual, LEAST_USUAL, MOST_USUAL)
        row[LABELS] = self._strength
        row[DOUBT] = max(row[DOUBT], 0.0)
        row[BIAS] = np.nan
        return row

    def _mixed(self, cards: Sequence[ModelCard]) -> Doubles | None:
        """How the cards' models are made of the learned ones, [L, C]; None where they are these, all in order."""
        learned = self.graph.learned
        places = [self._place.get(card.id, -1) for card in cards]
        if places == list(range(learned)):
            return None
        rows = []
        for card, place in zip(cards, places, strict=True):
            if place < 0:
                rows.append(self.graph.prior.weights([card])[0])
            else:
                rows.append(np.eye(1, learned, place)[0] if place < learned else self.graph.mix[place - learned])
        return np.array(rows).reshape(len(cards), learned).T

    def _known_edges(self) -> tuple[Doubles, Doubles, Doubles]:
        """Of the learned models: nothing but what they did."""
        mass, score, tokens = self.graph.edges[:, : self.graph.learned]
        return blended(mass, score, tokens, np.zeros_like(mass), None)

    def _edges(self, cards: Sequence[ModelCard], mix: Doubles | None) -> tuple[Doubles, Doubles, Doubles]:
        """Blended edges [C, K]: a learned model's prior is 0, any other's is what its kin did."""
        learned, raw = self.graph.learned, self.graph.edges
        own = self._known_edges()
        if mix is None:
            return own
        priors, sums = [], []
        nothing = np.zeros((3, raw.shape[2]))
        for column, card in enumerate(cards):
            place = self._place.get(card.id, -1)
            known = 0 <= place < learned
            told = nothing[:2] if known else np.array([mix[:, column] @ own[0], mix[:, column] @ own[1]])
            priors.append(told)
            sums.append(nothing if place < 0 else raw[:, place])
        prior, total = np.array(priors), np.array(sums)
        return blended(total[:, 0], total[:, 1], total[:, 2], prior[:, 0], prior[:, 1])

    def _folded(self, cards: Sequence[ModelCard], mix: Doubles | None, usual: Doubles) -> Folded:
        return folded(self.graph.weights, self.graph.memory.of(mix), usual, self._edges(cards, mix))

    def _planned(self, cards: tuple[ModelCard, ...]) -> Plan:
        rows = np.array([self._row(card) for card in cards]).reshape(len(cards), _WIDTH)
        mix = self._mixed(cards)
        made = self._folded(cards, mix, rows[:, USUAL])
        quality = self._shrunk(made.quality, mix)
        bias = rows[:, BIAS].copy()
        new = np.isnan(bias)
        if new.any():
            bias[new] = self._biases(quality[:, new], rows[new, USUAL])
        share = np.clip(rows[:, USUAL], LEAST_USUAL, MOST_USUAL)
        doubt = np.hypot(rows[:, DOUBT], _90_PERCENT * np.sqrt(share * (1 - share) / np.maximum(rows[:, LABELS], 1)))
        return Plan(
            cards=cards,
            maps=_floats(np.concatenate([quality, made.tokens], axis=1)),
            gap=made.gap,
            bias=_floats(bias),
            usual=_floats(rows[:, USUAL]),
            usual_tokens=_floats(np.exp(rows[:, LOG_TOKENS])),
            lift=lift(rows[:, LOG_TOKENS]),
            doubt=_floats(doubt),
            latency_per_token=_floats(np.exp(rows[:, LOG_MS]) / (np.exp(rows[:, LOG_TOKENS]) + WAIT_TOKENS)),
            mean_ratio=_floats(np.exp(rows[:, RATIO])),
        )

    def _shrunk(self, quality: Floats, mix: Doubles | None) -> Floats:
        """What models have in common, and what sets one apart, each at its own scale."""
        graph = self.graph
        if mix is None:
            common = quality.mean(axis=1, keepdims=True)
        else:
            usual = graph.table[: graph.learned, USUAL]
            common = folded(graph.weights, graph.memory, usual, self._known_edges()).quality.mean(axis=1, keepdims=True)
        of_network, of_heads = graph.shrink
        shrunk: Floats = (common + of_network * (quality - common)).astype(np.float32)
        heads = graph.memory.of(mix).heads
        shrunk[: len(heads)] += np.float32(of_heads) * heads
        return shrunk

    def _biases(self, quality: Floats, usual: Doubles) -> Doubles:
        """The biases [C] under which the mean forecast over all kinds of queries is the usual score."""
        places = self.graph.places
        crowd = np.argsort(-places.mass, kind="stable")[:_CROWD]
        nodes = places.fine[crowd]
        facts = np.broadcast_to(places.spread.centre, (len(nodes), len(FACTS))).astype(np.float32)
        inputs = Inputs(nodes, np.zeros(len(nodes), dtype=np.float32), facts)
        whole, _ = self.basis(inputs, nodes @ places.fine.T)
        return biases((whole @ quality).astype(np.float64), usual, places.mass[crowd].astype(np.float64))


def biases(deviations: Doubles, usual: Doubles, mass: Doubles | None = None) -> Doubles:
    """Biases [C] such that the mean over queries of sigmoid(bias + deviation [Q, C]) is the usual score [C]."""
    wanted = np.clip(usual, 0.005, 0.995)
    weights = np.ones(len(deviations)) if mass is None else mass
    weights = (weights / weights.sum())[:, None]
    found: Doubles = _logit(wanted)
    for _ in range(_NEWTON_STEPS):
        share = 1 / (1 + np.exp(-np.clip(found + deviations, -40, 40)))
        slope = np.maximum((weights * share * (1 - share)).sum(axis=0), 1e-3)
        found = found + np.clip((wanted - (weights * share).sum(axis=0)) / slope, -2, 2)
    return found


def _logit(share: Any) -> Any:
    bounded = np.clip(share, 1e-4, 1 - 1e-4)
    return np.log(bounded / (1 - bounded))


def _sigmoid(logits: Array) -> Array:
    halves: Array = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return halves


def _floats(array: Array) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float32)
