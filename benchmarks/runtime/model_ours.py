"""Our runtime as a worker, through `load_model` and the `LanguageModel` protocol."""

from __future__ import annotations

import argparse
import importlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.serve import CHUNK, Answer, Logits, run
from local_runtime.kv.pages import PAGE

CONTEXT_TOKENS = 1024


def own_pages(sequence: int) -> array[int]:
    """The pages of keys and values of a sequence that has a whole context to itself."""
    from local_runtime.kv.pages import PAGE

    each = CONTEXT_TOKENS // PAGE
    return array("i", range(sequence * each, (sequence + 1) * each))


def options(kind: Any, backend: str, **values: object) -> Any:
    """LoadOptions with these values; SystemExit where a backend is asked for and this version offers no choice."""
    if backend != "auto" or "backend" in {field.name for field in fields(kind)}:
        values["backend"] = backend
    if "backend" in values and "backend" not in {field.name for field in fields(kind)}:
        raise SystemExit(f"LoadOptions has no field `backend`: this version can't be asked for {backend!r}")
    return kind(**values)


class Ours:
    """One loaded model; each sequence has pages for a whole context."""

    def __init__(self, path: Path, backend: str, dtype: str, slots: int) -> None:
        self._path = path
        self._backend = backend
        self._dtype = dtype
        self._slots = slots

    def bring(self) -> None:
        """Import the loader, which brings what it needs."""
        importlib.import_module("local_runtime.models.load")
        importlib.import_module("local_runtime.models.base")

    def load(self) -> Answer:
        """Read the file; says which class computes."""
        from local_runtime.models.load import LoadOptions, load_model

        wanted = options(
            LoadOptions, self._backend, dtype=self._dtype, slots=self._slots, context_tokens=CONTEXT_TOKENS
        )
        self._model = load_model(self._path, wanted).model
        kind = type(self._model)
        return {"computed_by": f"{kind.__module__}.{kind.__qualname__}", "dtype": self._dtype}

    def use_threads(self, threads: int) -> None:
        """Threads of the model."""
        self._model.use_threads(threads)

    def prefill(self, tokens: Sequence[int], watch: Stopwatch) -> None:
        """One forward pass over the prompt."""
        watch.start()
        self._prompt(0, tokens)
        watch.stop()

    def decode(self, prompt: Sequence[int], count: int, watch: Stopwatch) -> int:
        """One forward pass a token."""
        return self.batch([prompt], count, watch)

    def batch(self, prompts: Sequence[Sequence[int]], steps: int, watch: Stopwatch) -> int:
        """One forward pass a step over all sequences."""
        from local_runtime.models.base import Segment

        last = [self._prompt(number, prompt) for number, prompt in enumerate(prompts)]
        pages = [own_pages(number) for number in range(len(prompts))]
        watch.start()
        for step in range(steps):
            rows = self._model.forward(
                [
                    Segment(held, len(prompt) + step, (token,), logits=1)
                    for held, prompt, token in zip(pages, prompts, last, strict=True)
                ]
            )
            last = [int(token) for token in np.argmax(rows, axis=1)]
        watch.stop()
        return steps * len(prompts)

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """Chunk by chunk, as the first sequence."""
        from local_runtime.models.base import Segment

        for start in range(0, len(tokens), CHUNK):
            chunk = tuple(tokens[start : start + CHUNK])
            yield self._model.forward([Segment(own_pages(0), start, chunk, logits=len(chunk))])

    def _prompt(self, sequence: int, tokens: Sequence[int]) -> int:
        """Compute a prompt as the sequence of that number; the greedy token after it."""
        from local_runtime.models.base import Segment

        return int(np.argmax(self._model.forward([Segment(own_pages(sequence), 0, tuple(tokens), logits=1)])[-1]))


def _pages(slot: int) -> array[int]:
    each = CONTEXT_TOKENS // PAGE
    return array("i", range(slot * each, (slot + 1) * each))


def main() -> None:
    """`python -m benchmarks.runtime.model_ours FILE [--backend B] [--dtype D] [--slots N]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--slots", type=int, default=1)
    given = parser.parse_args()
    run(Ours(given.file, given.backend, given.dtype, given.slots))


if __name__ == "__main__":
    main()
