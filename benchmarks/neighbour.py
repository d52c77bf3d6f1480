"""`python -m benchmarks.neighbour [--json FILE]`: what a busy neighbour costs a local model that may take two threads.

SmolLM2, one answer after the other on the native kernels; by turns alone and beside processes that only count.

| figure | what it is |
|---|---|
| `alone`, `beside` | tokens/s of 256 greedy tokens after a prompt of 56, median over the rounds |
| `left` | beside / alone, paired within a round, median |

`governed` chooses between one and two threads by what passes take (local_runtime.kernels.governor), `two threads` and
`one thread` don't. Each answer begins where the one before has left the governor: the first after a change pays for it.
Not measured: prompts, batches, more cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np

from local_runtime.bundled import bundled_path
from local_runtime.kernels.governor import Governor
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import LanguageModel, Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.native import NativeModel

PROMPT, TOKENS = 56, 256
COUNTING = "while True: pass"


class Always(Governor):
    """One number of threads, whatever passes take."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self._count = count

    def threads(self, rows: int) -> int:
        """See Governor."""
        return self._count


def answer(model: LanguageModel, pages: array[int]) -> float:
    """Tokens a second."""
    prompt = list(range(1000, 1000 + PROMPT))
    token = int(np.argmax(model.forward([Segment(pages, 0, prompt, 1)])[-1]))
    began = perf_counter()
    for step in range(TOKENS):
        token = int(np.argmax(model.forward([Segment(pages, PROMPT + step, [token], 1)])[-1]))
    return TOKENS / (perf_counter() - began)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that count, each a core's worth."""
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=10)


def measure(rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Of each way its figures."""
    governors = {"governed": Governor(2), "two threads": Always(2), "one thread": Always(1)}
    model = load_model(bundled_path("smollm2"), LoadOptions(slots=1, context_tokens=512)).model
    if not isinstance(model, NativeModel):
        raise SystemExit("the native kernels are not there: `fingerpost doctor` says why")
    model.use_threads(2)
    pages = array("i", range(512 // PAGE))
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in governors}
    for _ in range(rounds):
        for name, governor in governors.items():
            model.governor = governor
            alone = answer(model, pages)
            with neighbours(count):
                told[name].append((alone, answer(model, pages)))
    return {name: _figures(pairs) for name, pairs in told.items()}


def _figures(pairs: list[tuple[float, float]]) -> dict[str, float]:
    alone, beside = zip(*pairs, strict=True)
    found = {"alone": statistics.median(alone), "beside": statistics.median(beside)}
    return found | {"left": statistics.median(b / a for a, b in pairs), "least": min(b / a for a, b in pairs)}


def main() -> int:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbour", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--neighbours", type=int, default=1, help="processes that count (default 1)")
    arguments = parser.parse_args()
    found = measure(arguments.rounds, arguments.neighbours)
    for name, figures in found.items():
        print(f"{name:12}", "  ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
