"""Series of one process and of several that share a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.metrics import Metrics, forget_all, forget_worker

WORKER = """
import os, sys
from gateway.metrics import Metrics
metrics = Metrics(os.environ["PROMETHEUS_MULTIPROC_DIR"])
metrics.watch("ledger", "Figures.", lambda: {"queued": float(sys.argv[1]), "database_up": float(sys.argv[2])})
metrics.refresh()
metrics._fallbacks.labels("one", "timeout").inc()
print(os.getpid())
"""


def worker(folder: Path, queued: int, up: int) -> int:
    """A process that counts one thing, sets its gauges and ends; its id."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(queued), str(up)],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


def shown(folder: Path) -> str:
    return Metrics(str(folder)).render()[0].decode()


def test_one_process_shows_its_gauges_as_they_are() -> None:
    metrics = Metrics()
    figures = {"queued": 1.0, "database_up": 1.0}
    metrics.watch("ledger", "Figures.", lambda: figures)
    metrics.refresh()

    figures["queued"] = 7.0

    assert 'fingerpost_ledger{name="queued"} 7.0' in metrics.render()[0].decode()


def test_counts_of_workers_add_up_and_the_database_is_up_only_where_all_say_so(tmp_path: Path) -> None:
    worker(tmp_path, 2, 1)
    worker(tmp_path, 3, 0)

    text = shown(tmp_path)

    assert 'fingerpost_ledger{name="queued"} 5.0' in text
    assert 'fingerpost_ledger{name="database_up"} 0.0' in text
    assert 'fingerpost_fallbacks_total{endpoint="one",outcome="timeout"} 2.0' in text


def test_a_worker_that_ended_leaves_its_counts_but_not_its_gauges(tmp_path: Path) -> None:
    ended = worker(tmp_path, 2, 0)
    worker(tmp_path, 3, 1)

    forget_worker(str(tmp_path), ended)

    text = shown(tmp_path)
    assert 'name="queued"} 3.0' in text and 'name="database_up"} 1.0' in text
    assert 'outcome="timeout"} 2.0' in text


@pytest.mark.parametrize("starts", [1, 2])
def test_a_new_start_inherits_nothing(tmp_path: Path, starts: int) -> None:
    for _ in range(starts):
        worker(tmp_path, 2, 1)

    forget_all(str(tmp_path))

    assert "fingerpost_" not in shown(tmp_path)
