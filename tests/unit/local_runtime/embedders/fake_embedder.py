"""An embedder that remembers its calls, can be held up in the middle of one, and can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

PATIENCE_S = 10.0


class FakeEmbedder:
    """Four numbers from a digest. A text holding `nan` gives NaN, one holding `raise` raises."""

    def __init__(self) -> None:
        self.id = "fake/none/00000001"
        self.dimensions = 4
        self.max_tokens = 8
        self.calls: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.calls.append(list(texts))
        self.entered.release()
        if not self.may_go_on.wait(PATIENCE_S):
            raise TimeoutError
        if any("raise" in text for text in texts):
            raise ArithmeticError("told to raise")
        return np.stack([self.vector(text) for text in texts])

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    @staticmethod
    def vector(text: str) -> npt.NDArray[np.float32]:
        if "nan" in text:
            return np.full(4, np.nan, np.float32)
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        numbers = np.frombuffer(digest, np.uint8).astype(np.float32) + 1
        return (numbers / np.linalg.norm(numbers)).astype(np.float32)
