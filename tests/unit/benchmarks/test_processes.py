"""What the harness starts is pinned, has a clean environment, and is stopped with everything below it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.gateway.measure import tree
from benchmarks.gateway.processes import Processes, Started, clean_environment, cores, free_port
from tests.eventually import comes_true

_FAMILY = (
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('up', os.sched_getaffinity(0), flush=True)\n"
    "time.sleep(60)\n"
)


def _wait_for(started: Started, word: str) -> None:
    assert comes_true(lambda: word in started.last_words() or started.ended is not None, 30, every_s=0.001)


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_child_that_outlives_its_parent_is_stopped_too(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        started = processes.start("family", (sys.executable, "-c", _FAMILY), cores()[0], {})
        _wait_for(started, "up")
        family = [one.pid for one in tree(started.pid)]

    assert len(family) == 2
    assert comes_true(lambda: not any(map(_alive, family)), 30, every_s=0.001)


def test_what_was_started_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    started = processes.start("sleeper", ("sleep", "60"), cores()[0], {})

    def fail() -> None:
        with processes:
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert started.ended is not None


def test_a_process_may_use_its_core_only_and_ours_stay_as_they_were(tmp_path: Path) -> None:
    core, before = cores()[1], os.sched_getaffinity(0)

    with Processes(tmp_path) as processes:
        started = processes.start("family", (sys.executable, "-c", _FAMILY), core, {})
        _wait_for(started, "up")

        assert started.last_words() == f"up {{{core}}}"
    assert os.sched_getaffinity(0) == before


def test_the_last_line_of_a_failure_is_kept(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        started = processes.start("failing", (sys.executable, "-c", "raise SystemExit('no database')"), cores()[0], {})
        assert comes_true(lambda: started.ended is not None, 30, every_s=0.001)

        assert (started.ended, started.last_words()) == (1, "no database")


def test_settings_of_the_user_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_REDIS_URL", "redis://elsewhere")

    assert set(clean_environment({"A": "1"})) == {"PATH", "HOME", "LANG", "OMP_NUM_THREADS", "A"}


def test_a_free_port_is_one() -> None:
    assert 1024 <= free_port() <= 65535
