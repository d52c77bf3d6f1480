"""Our whole engine as a worker: what a caller of `Engine.generate` gets, on an event loop in the same process."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.serve import Answer, run

if TYPE_CHECKING:
    from local_runtime.engine import Engine

CONTEXT_TOKENS = 1024
FEWEST_TOKENS = 32


class Whole:
    """An engine for each number of threads, since an engine keeps the number that it was made with."""

    def __init__(self, path: Path, backend: str, dtype: str) -> None:
        self._path = path
        self._dtype = dtype
        self._backend = backend
        self._engines: dict[int, Engine] = {}

    def bring(self) -> None:
        """Import the engine and what it loads with."""
        importlib.import_module("local_runtime.engine")
        importlib.import_module("local_runtime.models.load")

    def load(self) -> Answer:
        """Load with one thread; further engines are loaded when they are asked for."""
        self.use_threads(1)
        return {}

    def use_threads(self, threads: int) -> None:
        """Use the engine with so many threads; it is loaded at the first time."""
        from local_runtime.engine import Engine

        if threads not in self._engines:
            more: dict[str, Any] = {}
            if "backend" in inspect.signature(Engine.load).parameters:
                more["backend"] = self._backend
            elif self._backend != "auto":
                raise SystemExit(f"Engine.load has no parameter `backend`: it can't be asked for {self._backend!r}")
            more |= {"dtype": self._dtype, "threads": threads, "max_batch": 1, "context_tokens": CONTEXT_TOKENS}
            self._engines[threads] = Engine.load(str(self._path), **more)
            self._engines[threads].start()
        self._engine = self._engines[threads]

    def prefill(self, tokens: Sequence[int], watch: Stopwatch) -> None:
        """From the call to the one new token that is asked for."""
        asyncio.run(self._generate(tokens, 1, watch, from_first=False))

    def decode(self, prompt: Sequence[int], count: int, watch: Stopwatch) -> int:
        """From the first new token to the last; SystemExit where the model ends its answer too early."""
        made = asyncio.run(self._generate(prompt, count + 1, watch, from_first=True))
        if made < min(count, FEWEST_TOKENS):
            raise SystemExit(f"the answer ended after {made} tokens: too few to measure")
        return made

    async def _generate(self, prompt: Sequence[int], count: int, watch: Stopwatch, *, from_first: bool) -> int:
        """Greedy tokens that were made while the watch ran."""
        from local_runtime.base import Sampling

        before = made = 0
        if not from_first:
            watch.start()
        async for delta in self._engine.generate(prompt, Sampling(max_tokens=count, temperature=0)):
            if from_first and not before:
                before = delta.output_tokens
                watch.start()
            made = delta.output_tokens
        watch.stop()
        return made - before


def main() -> None:
    """`python -m benchmarks.runtime.model_engine FILE [--backend B] [--dtype D]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    run(Whole(given.file, given.backend, given.dtype))


if __name__ == "__main__":
    main()
