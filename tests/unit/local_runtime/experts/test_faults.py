"""Experts while the disk is slow or fails: what is waited for, what is counted, what lives on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_runtime.experts.errors import ExpertLost
from local_runtime.experts.layout import Key
from local_runtime.experts.pool import ExpertPool
from tests.unit.local_runtime.experts.stores import EXPERT, LAYOUT, write_store


class Slow:
    """Reads one expert each time it is let; those in `lost` are lost."""

    def __init__(self) -> None:
        self.layout = LAYOUT
        self.may, self.began = threading.Semaphore(0), threading.Semaphore(0)
        self.order: list[Key] = []
        self.lost: set[Key] = set()

    def read(self, key: Key, into: memoryview) -> None:
        self.order.append(key)
        self.began.release()
        self.may.acquire()
        if key in self.lost:
            raise ExpertLost("gone")


class Sure:
    """Says of layer row 1 that its first three experts will be wanted."""

    def odds(self, row: int, ahead: int) -> Any:
        return np.array([0.9, 0.8, 0.7, 0, 0, 0]) if (row, ahead) == (1, 1) else None

    def saw(self, row: int, used: Any) -> None:
        """Learns nothing."""

    def told(self, row: int, ahead: int, probabilities: Any) -> None:
        """Asks nobody."""


@pytest.fixture
def slow() -> Iterator[tuple[Slow, ExpertPool]]:
    store = Slow()
    pool = ExpertPool(store, 3 * EXPERT, 2, predictor=Sure(), readers=1)  # type: ignore[arg-type]
    yield store, pool
    store.may.release(100)
    pool.close()


def foresee(store: Slow, pool: ExpertPool) -> None:
    """Have three experts of the second layer asked for early, the first of which is being read."""
    pool.saw(1, np.array([[0, 1]], np.int32), {})
    assert store.began.acquire(timeout=60)


def test_what_was_asked_for_early_makes_room_for_what_is_wanted(slow: tuple[Slow, ExpertPool]) -> None:
    store, pool = slow
    foresee(store, pool)

    arriving = pool.want(4, {5: 1})
    store.may.release(100)

    assert list(arriving) == [[5]]
    assert store.order[:2] == [(2, 0), (4, 5)]
    assert pool.stats.ahead_bytes == EXPERT


def test_what_nobody_waits_for_any_more_was_not_read_ahead(slow: tuple[Slow, ExpertPool]) -> None:
    store, pool = slow
    store.lost = {(1, 0)}
    store.may.release(1)
    with pytest.raises(ExpertLost):
        list(pool.want(1, {0: 3, 1: 2, 2: 1}))
    pool.done(1)
    assert store.began.acquire(timeout=60) and store.began.acquire(timeout=60)

    pool.want(1, {3: 1})

    assert pool.stats.ahead_bytes == 0


def test_what_was_asked_for_early_and_is_lost_is_asked_for_again(slow: tuple[Slow, ExpertPool]) -> None:
    store, pool = slow
    store.lost = {(2, 0)}
    foresee(store, pool)
    store.may.release(100)
    with pytest.raises(ExpertLost):
        list(pool.want(2, {0: 1}))
    pool.done(2)
    store.lost.clear()

    assert list(pool.want(2, {0: 1})) == [[0]]


def test_files_are_on_the_disk_before_a_store_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []

    def noting(descriptor: int, real: Any = os.fsync) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noting)

    folder = write_store(tmp_path / "other")

    names = [f"layer-{layer:03d}/expert-{expert:04d}.bin" for layer in LAYOUT.layers for expert in range(6)]
    assert ["/".join(path.parts[-2:]) for path in synced[:-2]] == names
    assert synced[-2].name == "store.json" and synced[-1] == folder.parent


def test_what_is_wanted_now_does_not_make_room_for_more_of_it(slow: tuple[Slow, ExpertPool]) -> None:
    store, pool = slow
    store.may.release(100)

    list(pool.want(4, {3: 1, 2: 2, 1: 3, 0: 4}))

    assert store.order == [(4, 0), (4, 1), (4, 2), (4, 3)]
