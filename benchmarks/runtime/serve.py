"""The worker's side: reads one JSON request a line, lets a model work, answers one JSON line each.

A model that fails ends the process with its traceback; the parent reports the last line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from benchmarks.gateway.measure import parse_smaps_rollup
from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.likelihood import loss

Logits = npt.NDArray[np.float32]
Answer = dict[str, Any]
CHUNK = 64


class Model(Protocol):
    """A contestant in its own process; one sequence at a time. Timed parts start and stop the watch themselves."""

    def bring(self) -> None:
        """Import what is needed."""

    def load(self) -> Answer:
        """Read the weights and make ready; JSON-ready facts about what was loaded."""

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on."""

    def prefill(self, tokens: Sequence[int], watch: Stopwatch) -> None:
        """Compute a prompt from the start, up to the logits of its last token; all of it is timed."""

    def decode(self, prompt: Sequence[int], count: int, watch: Stopwatch) -> int:
        """Compute a prompt, then time up to `count` new greedy tokens; how many were made."""


class Scorer(Protocol):
    """A model that gives away the logits of every token."""

    def logits(self, tokens: Sequence[int]) -> Iterable[Logits]:
        """Logits [up to `CHUNK`, vocabulary] of a fresh sequence, chunk by chunk, a row for each token."""


class Batcher(Protocol):
    """A model that computes several sequences at once."""

    def batch(self, prompts: Sequence[Sequence[int]], steps: int, watch: Stopwatch) -> int:
        """Compute the prompts, then time `steps` greedy tokens of each; how many were made in all."""


def window_loss(scorer: Scorer, window: Sequence[int]) -> float:
    """Sum of -ln p of every token of a window but the first."""
    total, at = 0.0, 0
    for rows in scorer.logits(window):
        following = window[at + 1 : at + 1 + len(rows)]
        total += loss(rows[: len(following)], following) if following else 0.0
        at += len(rows)
    return total


def memory() -> Answer:
    """Memory of this process in bytes: resident, private, and the most that was ever resident."""
    parsed = parse_smaps_rollup(Path("/proc/self/smaps_rollup").read_text())
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    return {"resident": parsed.rss, "private": parsed.private, "peak": peak}


class Service:
    """Answers requests with a model: a table of what may be asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._asked: dict[str, Callable[[Answer], Answer]] = {
            "load": self._load,
            "prefill": self._prefill,
            "decode": self._decode,
            "batch": self._batch,
            "loss": self._loss,
            "read": self._read,
            "memory": lambda _: memory(),
        }

    def answer(self, request: Answer) -> Answer:
        """The answer to one request; KeyError where it asks for what there is not."""
        return self._asked[request["do"]](request)

    def _load(self, _: Answer) -> Answer:
        imports, loading = Stopwatch(), Stopwatch()
        imports.start()
        self._model.bring()
        imports.stop()
        loading.start()
        facts = self._model.load()
        loading.stop()
        return {"imports_s": imports.timing().seconds, "facts": facts, **asdict(loading.timing())}

    def _prefill(self, request: Answer) -> Answer:
        self._model.use_threads(request["threads"])
        watch = Stopwatch()
        self._model.prefill(request["tokens"], watch)
        return _told(len(request["tokens"]), watch)

    def _decode(self, request: Answer) -> Answer:
        self._model.use_threads(request["threads"])
        watch = Stopwatch()
        return _told(self._model.decode(request["tokens"], request["count"], watch), watch)

    def _batch(self, request: Answer) -> Answer:
        self._model.use_threads(request["threads"])
        watch = Stopwatch()
        return _told(self._model.batch(request["prompts"], request["count"], watch), watch)

    def _read(self, request: Answer) -> Answer:
        self._model.use_threads(request["threads"])
        watch = Stopwatch()
        return _told(self._model.read(request["count"], watch), watch)

    def _loss(self, request: Answer) -> Answer:
        self._model.use_threads(request["threads"])
        return {"loss": window_loss(self._model, request["tokens"])}


def _told(tokens: int, watch: Stopwatch) -> Answer:
    timing = watch.timing()
    return {"per_s": tokens / timing.seconds, "tokens": tokens, **asdict(timing)}


def serve(model: object, requests: TextIO, answers: TextIO) -> None:
    """Answer until the requests end; the process sleeps in between."""
    service = Service(model)
    for line in requests:
        answers.write(json.dumps(service.answer(json.loads(line))) + "\n")
        answers.flush()


def run(model: object) -> None:
    """Serve on standard input and output; whatever else is printed goes to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(model, sys.stdin, answers)
