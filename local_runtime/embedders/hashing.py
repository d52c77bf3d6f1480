"""A deterministic embedder with no model behind it: hashed words and character n-grams, for tests and trials.
Similar spelling gives similar vectors; meaning plays no part."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.base import Embedder

_WORD = re.compile(r"\w+|[^\w\s]")
_GRAM_SIZES = (3, 4)
_GRAM_WEIGHT = 0.35


class HashingEmbedder:
    """Feature hashing (Weinberger et al. 2009): each word and n-gram adds ±weight at one hashed place; unit norm."""

    def __init__(self, dimensions: int = 256, max_tokens: int = 512) -> None:
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        recipe = f"1:{dimensions}:{max_tokens}:{_GRAM_SIZES}:{_GRAM_WEIGHT}"
        self.id = f"hashing/blake2b/{blake2b(recipe.encode(), digest_size=4).hexdigest()}"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit-norm float32 vectors, shape [len(texts), dimensions]."""
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            self._fill(row, _words(text)[: self.max_tokens])
        return vectors

    def count_tokens(self, text: str) -> int:
        """Words and punctuation marks."""
        return len(_words(text))

    def _fill(self, row: npt.NDArray[np.float32], words: list[str]) -> None:
        for (feature, weight), times in Counter(_features(words)).items():
            place, sign = self._place(feature)
            row[place] += sign * weight * (1 + math.log(times))
        norm = float(np.linalg.norm(row))
        if norm > 0:
            row /= norm
        else:  # no words at all, or features that cancelled one another: still a unit vector, and always the same
            row[self._place("")[0]] = 1.0

    def _place(self, feature: str) -> tuple[int, float]:
        # surrogatepass: a lone surrogate can arrive in JSON and must not raise here
        digest = int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        return (digest >> 1) % self.dimensions, 1.0 if digest & 1 else -1.0


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _features(words: list[str]) -> Iterator[tuple[str, float]]:
    for word in words:
        yield f"w:{word}", 1.0
        edged = f"<{word}>"
        for size in _GRAM_SIZES:
            for start in range(len(edged) - size + 1):
                yield f"g:{edged[start : start + size]}", _GRAM_WEIGHT


def load(cache_dir: Path, threads: int = 1) -> Embedder:
    """The default size; nothing is read or written."""
    return HashingEmbedder()
