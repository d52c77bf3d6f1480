"""What a question is about, from the embedding that the gateway has anyway and a few marks of its text.

Multinomial logistic regression, numpy only, a few microseconds. It selects policy and the verifier's weights only; it
never decides who may see what. Training: `routers.training.cache_classes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import log1p
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from gateway.cache.partition import Vector
from gateway.cache.semantic import ELSE
from routers.features import has_code

Floats = npt.NDArray[np.float32]
FORMAT = 1
# Below this probability nothing is said, and the rule for all other categories holds: the strictest.
LEAST = 0.4
READ_CHARS = 2000
MARKS = ("length", "words with digits", "slash", "quote", "dollar", "code")
_MOST_DIGITS = 3


class ClassesError(ValueError):
    """A file of classes that this version can't read, in words for people."""


@dataclass(frozen=True, slots=True)
class ClassesModel:
    """What training yields: `weights` [names, dimensions + marks + 1], of a vector, its text's marks, and 1."""

    names: tuple[str, ...]
    embedder: str
    weights: Floats

    def save(self, path: Path) -> None:
        """Write one npz file without pickles."""
        told = {"format": FORMAT, "names": self.names, "embedder": self.embedder, "marks": MARKS}
        np.savez_compressed(path, told=np.array(json.dumps(told)), allow_pickle=False, weights=self.weights)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; `ClassesError` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                told = json.loads(str(file["told"]))
                weights = np.ascontiguousarray(file["weights"], dtype=np.float32)
            names, embedder = tuple(told["names"]), str(told["embedder"])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ClassesError(f"{path} holds no classes: {error}") from error
        if told.get("format") != FORMAT or tuple(told.get("marks", ())) != MARKS:
            raise ClassesError(f"{path} was made for other marks than this version reads: calibrate again")
        if weights.ndim != 2 or len(weights) != len(names) or not np.isfinite(weights).all():
            raise ClassesError(f"{path} has no weights for {len(names)} classes")
        return cls(names, embedder, weights)


class Classes:
    """Says what questions are about. Pure."""

    def __init__(self, model: ClassesModel, least: float = LEAST) -> None:
        self.model = model
        self._least = least
        self._meant = np.ascontiguousarray(model.weights[:, : -len(MARKS) - 1])
        self._marked = np.ascontiguousarray(model.weights[:, -len(MARKS) - 1 :])

    def of(self, vector: Vector, text: str) -> tuple[str, float]:
        """The likeliest category of a text with this unit vector, and its probability; ELSE where that is too small.

        A vector of another length or with what is no number is no reason to fail: it says nothing.
        """
        if vector.shape != self._meant.shape[1:]:
            return ELSE, 0.0
        odds = self._meant @ vector + self._marked @ np.array([*marks(text), 1.0], dtype=np.float32)
        place = int(odds.argmax())
        chance = float(1.0 / np.exp(odds - odds[place]).sum())
        # What is no number is smaller than nothing, so it ends here too.
        return (self.model.names[place], chance) if chance >= self._least else (ELSE, chance)

    def topic(self, vector: Vector, text: str) -> str:
        """The category alone."""
        return self.of(vector, text)[0]


def marks(text: str) -> tuple[float, ...]:
    """What is read of a text's beginning, in the order of `MARKS`: none tells how somebody writes, only what of."""
    start = text[:READ_CHARS]
    digits = 0
    for word in start.split():
        if not word.isalpha() and any(map(str.isdigit, word)):
            digits += 1
            if digits == _MOST_DIGITS:
                break
    return log1p(len(start)) / 3, float(digits), "/" in start, '"' in start, "$" in start, has_code(start)
