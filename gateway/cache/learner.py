"""A labelled stream as pairs to learn from: near queries, what they have in common, and groups that no fold may divide.

It fits models on parts of the stream; which thresholds they may serve at is `calibrate`'s business.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.cache.parsed import BUCKETS, Parsed, bucket, parse
from gateway.cache.partition import Vector
from gateway.cache.replay import StreamRow, entries
from gateway.cache.semantic import CANDIDATES, FLOOR, Entry
from gateway.cache.verifier import INPUTS, Model, inputs
from routers.training.same_answer import Pairs, Plan, fit

Groups = npt.NDArray[np.intp]
Near = tuple[int, Groups, Vector]
Names = tuple[str, ...]
NEAR_IDENTICAL = 0.9
_BLOCK = 1000
_SLOT = re.compile(r"\"[^\"]*\"|\b[A-Z][A-Z. ]+\b|\d+")
_WORSE = (
    *("rarity_missing_a", "rarity_missing_b", "rarity_missing", "rarest_missing_a", "rarest_missing_b"),
    *("missing_share", "bag_missing_a", "bag_missing_b"),
    *("numbers_differ", "numbers_missing_a", "numbers_missing_b", "numbers_order"),
    *("measures_differ", "negation_parity", "opposed", "opposed_one", "sides_differ", "propers_differ"),
    *("propers_missing_a", "propers_missing_b", "propers_disjoint", "codes_differ", "codes_disjoint", "times_differ"),
    *("times_conflict", "persons_differ", "persons_swapped", "modals_differ", "links_conflict"),
)
_BETTER = (
    *("cosine", "margin", "content_overlap", "bag_overlap", "function_overlap", "bigram_overlap", "gram_overlap"),
    *("question_same", "links_overlap", "first_same", "last_same"),
)
_SLOPED = ("cosine", "content_overlap", "rarity_missing", "bag_overlap", "gram_overlap", "gram_containment")


@dataclass(frozen=True, slots=True)
class Stream:
    """Labelled rows and their unit vectors [rows, dimensions]."""

    rows: Sequence[StreamRow]
    vectors: Vector


class Learner:
    """The pairs of near queries of some streams, ready to fit models on parts of them. Streams are searched apart."""

    def __init__(self, streams: Sequence[Stream], embedder: str, seed: int) -> None:
        rows = [row for stream in streams for row in stream.rows]
        self._embedder = embedder
        self._rarity = rarities([row.query for row in rows])
        self._weights: list[float] = self._rarity.tolist()
        self.names = tuple(sorted({row.category for row in rows}))
        self._plan = plan(len(self.names), seed)
        self.asked: list[Entry] = entries(rows, [vector for stream in streams for vector in stream.vectors], self.parse)
        near = _near(streams)
        self._ours = np.array([row for row, found, _ in near for _ in found], dtype=np.intp)
        self._theirs = np.array([other for _, found, _ in near for other in found], dtype=np.intp)
        self._pairs = _pairs(rows, self.asked, near, (self._ours, self._theirs), self.names)
        close = self._pairs.inputs[:, 0] >= NEAR_IDENTICAL
        self.groups = joined(rows, self._ours[close], self._theirs[close])

    def parse(self, text: str) -> Parsed:
        """A text's evidence, by how rare its words are in the streams."""
        return parse(text, self._weights)

    def model(self, chosen: npt.NDArray[np.bool_], more: Pairs | None = None) -> Model:
        """A model of the pairs both of whose rows are chosen [rows], and of `more`, whose categories are the places of
        `names`. `ValueError` where they can't teach anything."""
        pairs = self._pairs.of(chosen[self._ours] & chosen[self._theirs])
        if more is not None:
            pairs = pairs.and_of(more)
        if not (pairs.same.any() and (~pairs.same).any()):
            raise ValueError("the stream has no near queries with the same answer and with different ones")
        fitted = fit(pairs, self._plan)
        return Model(categories=self.names, embedder=self._embedder, rarity=self._rarity, **fitted)


def _near(streams: Sequence[Stream]) -> list[Near]:
    found: list[Near] = []
    before = 0
    for stream in streams:
        here = nearest(stream.vectors, CANDIDATES, FLOOR)
        found += [(before + row, before + near, cosines) for row, near, cosines in here]
        before += len(stream.rows)
    return found


def _pairs(
    rows: Sequence[StreamRow], asked: Sequence[Entry], near: Sequence[Near], places: tuple[Groups, Groups], names: Names
) -> Pairs:
    parsed = [one.parsed for one in asked]
    made = [inputs(parsed[row], [parsed[other] for other in found], cosines) for row, found, cosines in near]
    ours, theirs = places
    category = np.array([names.index(row.category) for row in rows], dtype=np.intp)
    answers = np.unique([row.answer_id for row in rows], return_inverse=True)[1]
    empty = np.empty((0, len(INPUTS)), dtype=np.float32)
    return Pairs(np.concatenate([empty, *made]), category[ours], answers[ours] == answers[theirs])


def plan(categories: int, seed: int) -> Plan:
    """How the verifier is fitted: the direction in which each kind of evidence may point is fixed beforehand."""
    direction = tuple(1 if name in _BETTER else -1 if name in _WORSE else 0 for name in INPUTS)
    return Plan(categories, tuple(INPUTS.index(name) for name in _SLOPED), direction, seed=seed)


def rarities(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Inverse document frequency of each hash bucket [BUCKETS], natural logarithm."""
    ones = [1.0] * BUCKETS
    seen = Counter(place for text in texts for place in {bucket(word) for word in parse(text, ones).content})
    counts = np.array([seen[place] for place in range(BUCKETS)], dtype=np.float32)
    return np.log((len(texts) + 1) / (counts + 0.5)).astype(np.float32)


def nearest(vectors: Vector, count: int, floor: float) -> list[Near]:
    """Of each row the nearest earlier rows and their cosines, largest first; rows without any are left out."""
    found: list[Near] = []
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors[: start + _BLOCK].T
        for row in range(start, start + len(cosines)):
            of_row = cosines[row - start, :row]
            rows = np.flatnonzero(of_row >= floor)
            rows = rows[np.argsort(-of_row[rows], kind="stable")[:count]]
            if len(rows):
                found.append((row, rows, of_row[rows]))
    return found


def template(text: str) -> str:
    """A text without numbers, quoted words and names in capitals, in which texts of one make may differ."""
    return " ".join(_SLOT.sub("#", text).lower().split())


def joined(rows: Sequence[StreamRow], ours: Groups, theirs: Groups) -> Groups:
    """Each row's group: rows of one answer, of one template, or named together belong to one group."""
    parent = list(range(len(rows)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for place, row in enumerate(rows):
        for key in (("answer", row.answer_id), ("template", f"{row.category} {template(row.query)}")):
            parent[root(place)] = root(first.setdefault(key, place))
    for one, other in zip(ours.tolist(), theirs.tolist(), strict=True):
        parent[root(one)] = root(other)
    return np.array([root(row) for row in range(len(rows))], dtype=np.intp)


def divided(groups: Groups, folds: int, seed: int) -> Groups:
    """Each row's fold; a group is never divided, and folds are about equally large."""
    names, sizes = np.unique(groups, return_counts=True)
    order = np.argsort(-(sizes + np.random.default_rng(seed).random(len(names))))
    load = np.zeros(folds)
    fold_of = {}
    for place in order:
        fold = int(load.argmin())
        fold_of[names[place]] = fold
        load[fold] += sizes[place]
    return np.array([fold_of[group] for group in groups], dtype=np.intp)
