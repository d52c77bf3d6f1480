"""Lets the contestants take turns: starts them, picks their fastest settings, measures round by round."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from benchmarks.runtime.clock import between, read
from benchmarks.runtime.contestants import Command, Contestant
from benchmarks.runtime.likelihood import perplexity
from benchmarks.runtime.summary import CONTENDED_CORES, SPEEDS, Measurement, rotated
from benchmarks.runtime.workers import CannotRun, Worker

THREADS = (1, 2)
BATCHES = (1, 2, 4, 8, 16)
_TRIALS = 3
_TRIAL_TOKENS = 32
_ARENA_PASSES = 100
_BATCH_STEPS = 64
_WARM_UP_TOKENS = 32
_LOOK_S = 0.25

Speeds = dict[str, float]


@dataclass(frozen=True, slots=True)
class Texts:
    """The fixed text as token ids, and its windows to be scored.

    Each round has prompts of its own, from other places of the text: an engine that remembers what it has computed
    would else be measured at remembering. ValueError for a text of fewer than 1024 tokens.
    """

    tokens: list[int]
    windows: list[list[int]]
    new_tokens: int = 128

    def __post_init__(self) -> None:
        if len(self.tokens) < 1024:
            raise ValueError(f"the text has {len(self.tokens)} tokens, 1024 are needed")

    def short(self, number: int) -> list[int]:
        """The prompt of 56 tokens that is continued in round `number`."""
        return self._from(56 * number, 56)

    def long(self, number: int) -> list[int]:
        """The prompt of 512 tokens of round `number`."""
        return self._from(28 + 112 * number, 512)

    def many(self, count: int) -> list[list[int]]:
        """Prompts of 56 tokens for so many sequences."""
        return [self.short(number) for number in range(count)]

    def _from(self, place: int, size: int) -> list[int]:
        start = place % (len(self.tokens) - size)
        return self.tokens[start : start + size]


@dataclass(slots=True)
class Loaded:
    """What was measured once of a contestant: its setting, trial, start times and memory in bytes."""

    scored: bool
    setting: str
    trial: dict[str, Speeds]
    first: dict[str, Any]
    again: dict[str, Any]
    memory: dict[str, int]


@dataclass(slots=True)
class Field:
    """Workers in the race by name, those that measure something beside it, what is known, and who is missing why."""

    stack: ExitStack
    scratch: Path
    words: Callable[[str], None]
    workers: dict[str, Worker] = field(default_factory=dict)
    aside: dict[str, Worker] = field(default_factory=dict)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def start(self, name: str, command: Command) -> Worker:
        """Start a worker whose home is a folder of this run, so that nothing is found that an earlier run left."""
        home = self.scratch / "home"
        home.mkdir(exist_ok=True)
        environment = {**command.environment, "HOME": str(home)}
        worker = Worker(name, command.words, environment, self.scratch / f"{name}.log".replace(" ", "-"))
        self.stack.callback(worker.stop)
        return worker

    def start_aside(self, name: str, command: Callable[[], Command]) -> None:
        """Start a worker beside the race and load it; where that fails it is missing."""
        try:
            self.aside[name] = self.start(name, command())
            self.aside[name].ask("load")
        except CannotRun as reason:
            self.drop(name, str(reason))

    def drop(self, name: str, reason: str) -> None:
        """Leave a contestant out from now on."""
        self.missing[name] = reason
        self.words(f"{name} is left out: {reason}")
        for worker in (self.workers.pop(name, None), self.aside.pop(name, None)):
            if worker is not None:
                worker.stop()

    def enter(self, contestant: Contestant, given: Texts) -> None:
        """Pick the setting, start twice (the second process stays), measure memory, warm up; CannotRun if it fails."""
        setting, trial = self._fastest(contestant, given)
        command = contestant.variants[setting]
        with self.start(contestant.name, command) as once:
            first = once.ask("load")
        worker = self.start(contestant.name, command)
        again = worker.ask("load")
        worker.ask("prefill", threads=1, tokens=given.long(0))
        worker.ask("decode", threads=1, tokens=given.short(0), count=given.new_tokens)
        memory = worker.ask("memory")
        worker.ask("decode", threads=2, tokens=given.short(0), count=_WARM_UP_TOKENS)
        self.workers[contestant.name] = worker
        self.loaded[contestant.name] = Loaded(contestant.scored, setting, trial, first, again, memory)

    def _fastest(self, contestant: Contestant, given: Texts) -> tuple[str, dict[str, Speeds]]:
        """The label of the variant with the highest product of its best decode and prefill speeds, one thread."""
        labels = list(contestant.variants)
        if len(labels) == 1:
            return labels[0], {}
        trial: dict[str, Speeds] = {label: dict.fromkeys(SPEEDS, 0.0) for label in labels}
        with ExitStack() as stack:
            workers = {label: stack.enter_context(self.start(label, contestant.variants[label])) for label in labels}
            for worker in workers.values():
                worker.ask("load")
            for _ in range(_TRIALS):
                for label, worker in workers.items():
                    told = {
                        "decode": worker.ask("decode", threads=1, tokens=given.short(0), count=_TRIAL_TOKENS),
                        "prefill": worker.ask("prefill", threads=1, tokens=given.long(0)[:256]),
                    }
                    trial[label] = {phase: max(trial[label][phase], told[phase]["per_s"]) for phase in SPEEDS}
        return max(labels, key=lambda label: prod(trial[label].values())), trial


def wait_until_quiet(patience_s: float) -> None:
    """Return when other processes leave the cores alone, or after `patience_s`."""
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        before = read()
        time.sleep(_LOOK_S)
        if between(before, read()).other_cores <= CONTENDED_CORES:
            return


def run_round(number: int, race: Field, given: Texts, patience_s: float) -> list[Measurement]:
    """One figure of everybody at each phase and number of threads; who fails is left out from then on."""
    made: list[Measurement] = []

    def take(phase: str, threads: int, name: str, worker: Worker | None, do: str, **values: Any) -> None:
        if worker is None:
            return
        wait_until_quiet(patience_s)
        try:
            told = worker.ask(do, threads=threads, **values)
        except CannotRun as reason:
            race.drop(worker.name, str(reason))
        else:
            made.append(Measurement(number, phase, threads, name, told["per_s"], told["seconds"], told["other_cores"]))

    asked: dict[str, dict[str, Any]] = {
        "decode": {"tokens": given.short(number), "count": given.new_tokens},
        "prefill": {"tokens": given.long(number)},
    }
    for threads in THREADS:
        take("bandwidth", threads, "arena", race.aside.get("arena"), "read", count=_ARENA_PASSES)
        for phase in SPEEDS:
            for name in rotated(list(race.workers), number):
                take(phase, threads, name, race.workers[name], phase, **asked[phase])
        for size in BATCHES:
            prompts = given.many(size)
            take("batch", threads, str(size), race.aside.get("batch"), "batch", prompts=prompts, count=_BATCH_STEPS)
    return made


def score(worker: Worker, given: Texts) -> float:
    """Perplexity of the windows, one thread."""
    losses = [worker.ask("loss", threads=1, tokens=window)["loss"] for window in given.windows]
    return perplexity(losses, len(given.windows[0]))
