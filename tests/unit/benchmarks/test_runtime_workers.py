"""Workers are real processes that answer line by line; what they print besides disturbs nobody."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.runtime import built
from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.model_ours import options
from benchmarks.runtime.rounds import Texts
from benchmarks.runtime.serve import serve
from benchmarks.runtime.workers import CannotRun, Worker

WORKER = """
from benchmarks.runtime.serve import run
class Model:
    def bring(self): print("noise")
    def load(self): return {"kind": "test"}
run(Model())
"""


def started(tmp_path: Path, code: str) -> Worker:
    return Worker("test", (sys.executable, "-c", code), {}, tmp_path / "log")


class Counting:
    """Makes every token that it is asked for."""

    threads = 0

    def use_threads(self, threads: int) -> None:
        self.threads = threads

    def decode(self, prompt: Sequence[int], count: int, watch: Stopwatch) -> int:
        watch.start()
        watch.stop()
        return count - len(prompt)


def test_a_speed_is_the_tokens_made_by_the_time_that_the_model_measured() -> None:
    model, answers = Counting(), io.StringIO()
    request = {"do": "decode", "threads": 2, "tokens": [1, 2, 3], "count": 10}

    serve(model, io.StringIO(json.dumps(request) + "\n"), answers)

    told = json.loads(answers.getvalue())
    assert model.threads == 2
    assert told["tokens"] == 7
    assert told["per_s"] == pytest.approx(7 / told["seconds"])
    assert told["other_cores"] >= 0


def test_a_worker_answers_although_its_model_prints(tmp_path: Path) -> None:
    with started(tmp_path, WORKER) as worker:
        loaded = worker.ask("load", timeout_s=60)
        memory = worker.ask("memory", timeout_s=60)

    assert loaded["facts"] == {"kind": "test"} and loaded["seconds"] > 0
    assert 0 < memory["private"] <= memory["resident"] <= memory["peak"]
    assert (tmp_path / "log").read_text() == "noise\n"


def test_a_worker_that_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with started(tmp_path, WORKER) as worker, pytest.raises(CannotRun, match=r"test ended: .*use_threads"):
        worker.ask("decode", timeout_s=60, threads=1, tokens=[1], count=1)


def test_a_worker_that_is_silent_is_given_up(tmp_path: Path) -> None:
    silent = "import sys; [None for _ in sys.stdin]"

    with started(tmp_path, silent) as worker, pytest.raises(CannotRun, match="did not answer 'load' in time"):
        worker.ask("load", timeout_s=0.01)


def test_a_worker_may_be_stopped_twice(tmp_path: Path) -> None:
    worker = started(tmp_path, WORKER)

    worker.stop()
    worker.stop()

    with pytest.raises(CannotRun, match="test was stopped"):
        worker.ask("memory", timeout_s=60)


@dataclass
class WithBackend:
    slots: int
    backend: str


@dataclass
class WithoutBackend:
    slots: int


def test_a_backend_is_passed_on_where_there_is_a_choice_and_refused_by_name_where_there_is_none() -> None:
    assert options(WithBackend, "native", slots=2) == WithBackend(2, "native")
    assert options(WithBackend, "auto", slots=2) == WithBackend(2, "auto")
    assert options(WithoutBackend, "auto", slots=2) == WithoutBackend(2)
    with pytest.raises(SystemExit, match="no field `backend`"):
        options(WithoutBackend, "native", slots=2)


def test_prompts_are_of_the_lengths_that_are_told() -> None:
    given = Texts(list(range(1024)), [])

    assert (len(given.short(3)), len(given.long(3))) == (56, 512)
    assert {len(prompt) for prompt in given.many(16)} == {56}
    with pytest.raises(ValueError, match="1023 tokens"):
        Texts(list(range(1023)), [])


def test_prompts_of_different_rounds_and_phases_begin_differently() -> None:
    given = Texts(list(range(7168)), [])

    begun = [prompt[0] for number in range(50) for prompt in (given.short(number), given.long(number))]

    assert len(set(begun)) == len(begun)


def test_what_was_built_is_not_built_again_but_what_was_interrupted_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built, "ENVIRONMENTS", tmp_path)
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        assert not (folder / "half").exists()
        (folder / "half").touch()
        if len(made) == 1:
            raise CannotRun("interrupted")

    with pytest.raises(CannotRun, match="interrupted"):
        built.once("part", make)
    folders = {built.once("part", make), built.once("part", make)}

    assert folders == {tmp_path / "part"} and len(made) == 2


def test_a_command_that_fails_is_reported_with_its_last_line() -> None:
    with pytest.raises(CannotRun, match="failed: no such thing"):
        built.carry_out((sys.executable, "-c", "raise SystemExit('no such thing')"), 60)
    with pytest.raises(CannotRun, match="took more than"):
        built.carry_out((sys.executable, "-c", "import threading; threading.Event().wait()"), 0.01)
