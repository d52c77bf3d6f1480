"""P(two texts ask for one answer): small forests, a linear model and small nets over cosine and lexical evidence.

All categories share one scale of probability, so one threshold means the same everywhere. It knows no stores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from gateway.cache.evidence import NAMES, evidence
from gateway.cache.parsed import BUCKETS, Parsed, parse

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
FORMAT = 2
NEAR = 0.05
_FAR = 5.0
INPUTS = ("cosine", "margin", "crowd", *NAMES)
_ALWAYS_DIFFERENT = (
    "numbers_order",
    "persons_swapped",
    "opposed",  # one says on where the other says off
)


class VerifierError(ValueError):
    """A model file that this version can't read, in words for people."""


@dataclass(frozen=True, slots=True)
class Model:
    """What training yields. Trees are laid end to end, those of all and each category's own; a leaf points to itself.

    `linear` [categories + 1, inputs + 1] ends in the intercepts, `scale` [categories + 1, 5] gives the last step's
    intercept and the weights of forest, linear, own forest's and nets' score; the last row of both serves a category
    that is not known. `own_spans` [categories + 1] are the ends of each category's `own_roots`. The nets [nets, ...]
    take the category's column and the inputs, less `center` and over `width`.
    """

    categories: tuple[str, ...]
    embedder: str
    rarity: Floats
    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int16]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Floats
    base: float
    depth: int
    linear: Floats
    scale: Floats
    own_roots: npt.NDArray[np.int32]
    own_spans: npt.NDArray[np.int32]
    own_base: Floats
    center: Floats
    width: Floats
    net_0: Floats
    net_1: Floats
    net_2: Floats
    net_3: Floats
    net_4: Floats
    net_5: Floats

    def save(self, path: Path) -> None:
        """Write one npz file without pickles."""
        told = {
            "format": FORMAT,
            "categories": self.categories,
            "embedder": self.embedder,
            "inputs": INPUTS,
            "base": self.base,
            "depth": self.depth,
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(path, told=np.array(json.dumps(told)), allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; `VerifierError` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                told = json.loads(str(file["told"]))
                arrays = {name: file[name] for name in _ARRAYS}
        except (OSError, ValueError, KeyError) as error:
            raise VerifierError(f"{path} is no verifier: {error}") from error
        if told.get("format") != FORMAT or tuple(told.get("inputs", ())) != INPUTS:
            raise VerifierError(f"{path} was made for other evidence than this version gathers: calibrate again")
        return cls(
            categories=tuple(told["categories"]),
            embedder=told["embedder"],
            base=float(told["base"]),
            depth=int(told["depth"]),
            **arrays,
        )


_ARRAYS = (
    *("rarity", "roots", "feature", "threshold", "left", "right", "value", "linear", "scale"),
    *("own_roots", "own_spans", "own_base", "center", "width"),
    *("net_0", "net_1", "net_2", "net_3", "net_4", "net_5"),
)


class Verifier:
    """Scores candidates for a query. Pure: equal arguments, equal probabilities."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._rarity: list[float] = model.rarity.tolist()
        self._place = {name: place for place, name in enumerate(model.categories)}
        if len(self._rarity) != BUCKETS:
            raise VerifierError(f"a verifier needs {BUCKETS} rarities, not {len(self._rarity)}")

    def parse(self, text: str) -> Parsed:
        """A text's evidence, to be kept with its entry."""
        return parse(text, self._rarity)

    def probabilities(
        self,
        query: Parsed,
        category: str,
        candidates: Sequence[tuple[Parsed, str]],
        cosines: Floats,
    ) -> Doubles:
        """P(same answer) of each candidate, shape [candidates]: the smaller one of its own and the query's category.

        `cosines` [candidates], largest first, are all that the search found: their spread is evidence too.
        """
        rows = inputs(query, [candidate for candidate, _ in candidates], cosines)
        unknown = len(self._place)
        ours = np.full(len(rows), self._place.get(category, unknown))
        theirs = np.array([self._place.get(of, unknown) for _, of in candidates], dtype=np.intp)
        found = self.score(rows, ours)
        apart = ours != theirs
        if apart.any():
            found[apart] = np.minimum(found[apart], self.score(rows[apart], theirs[apart]))
        return np.where(vetoed(rows), 0.0, found)

    def score(self, rows: Floats, places: npt.NDArray[np.intp]) -> Doubles:
        """Probabilities of rows of inputs [rows, INPUTS] under these categories (places; the last is any other)."""
        model = self.model
        told = with_category(rows, places, len(model.categories))
        forest = forest_score(model, told, model.roots, model.base)
        linear = (model.linear[places, :-1] * rows).sum(axis=1) + model.linear[places, -1]
        scale = model.scale[places]
        logit = scale[:, 0] + scale[:, 1] * forest + scale[:, 2] * linear
        logit += scale[:, 3] * own_score(model, told, places) + scale[:, 4] * net_score(model, told)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30, 30))), dtype=np.float64)


def inputs(query: Parsed, candidates: Sequence[Parsed], cosines: Floats) -> Floats:
    """The model's inputs [candidates, INPUTS]: cosine, margin to the best other one, how many are near, evidence."""
    rows = np.empty((len(candidates), len(INPUTS)), dtype=np.float32)
    if not len(candidates):
        return rows
    rows[:, 0] = cosines
    rows[:, 1] = cosines - cosines[0]
    rows[0, 1] = cosines[0] - (cosines[1] if len(cosines) > 1 else 0.5)
    rows[:, 2] = (cosines[None, :] >= cosines[:, None] - NEAR).sum(axis=1)
    for place, candidate in enumerate(candidates):
        rows[place, 3:] = evidence(query, candidate)
    return rows


def with_category(rows: Floats, places: npt.NDArray[np.intp], count: int) -> Floats:
    """The forest's inputs: one column for each category in front of the inputs (all 0 where it is not known)."""
    told = np.zeros((len(rows), count + 1), dtype=np.float32)
    told[np.arange(len(rows)), places] = 1.0
    return np.concatenate([told[:, :count], rows], axis=1)


def forest_score(model: Model, rows: Floats, roots: npt.NDArray[np.int32], base: float) -> Doubles:
    """Some trees' log odds [rows]: all trees of all rows go down one level at a time."""
    count, width = rows.shape
    flat = rows.ravel()
    first = np.repeat(np.arange(count, dtype=np.intp) * width, len(roots))
    at = np.tile(roots, count)
    for _ in range(model.depth):
        goes_left = flat.take(first + model.feature.take(at)) <= model.threshold.take(at)
        at = np.where(goes_left, model.left.take(at), model.right.take(at))
    leaves = model.value.take(at).reshape(count, len(roots))
    return np.asarray(leaves.sum(axis=1, dtype=np.float64) + base, dtype=np.float64)


def own_score(model: Model, rows: Floats, places: npt.NDArray[np.intp]) -> Doubles:
    """The log odds of each row's category's own forest [rows], 0 where it has none."""
    found = np.zeros(len(rows))
    for place in set(places.tolist()):
        if place < len(model.categories):
            roots = model.own_roots[model.own_spans[place] : model.own_spans[place + 1]]
            if len(roots):
                here = places == place
                found[here] = forest_score(model, rows[here], roots, float(model.own_base[place]))
    return found


def net_score(model: Model, rows: Floats) -> Doubles:
    """The mean of the nets' log odds [rows]."""
    count = len(model.categories)
    scaled = np.clip((rows[:, count:] - model.center) / model.width, -_FAR, _FAR)
    told = np.concatenate([rows[:, :count], scaled], axis=1)
    one = np.maximum(told @ model.net_0 + model.net_1[:, None], 0)
    two = np.maximum(one @ model.net_2 + model.net_3[:, None], 0)
    return np.asarray((two @ model.net_4 + model.net_5[:, None]).mean(axis=(0, 2)), dtype=np.float64)


_VETOES = tuple(INPUTS.index(name) for name in _ALWAYS_DIFFERENT)
_OTHER_NUMBERS = tuple(INPUTS.index(name) for name in ("numbers_missing_a", "numbers_missing_b"))


def vetoed(rows: Floats) -> npt.NDArray[np.bool_]:
    """Candidates that no score may rescue [rows], such as each with a number that the other lacks."""
    told = (rows[:, _VETOES] > 0).any(axis=1) | (rows[:, _OTHER_NUMBERS] > 0).all(axis=1)
    return np.asarray(told, dtype=np.bool_)
