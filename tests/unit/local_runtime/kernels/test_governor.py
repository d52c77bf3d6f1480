"""How many threads are used as company comes and goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local_runtime.kernels.governor import Governor

Speed = Callable[[int], float]


def quiet(threads: int) -> float:
    return float(0.003 / threads**0.8)


def crowded(threads: int) -> float:
    return 0.003 if threads == 1 else 0.02


def passes(governor: Governor, speed: Speed, count: int, rows: int = 1) -> list[int]:
    used = []
    for _ in range(count):
        threads = governor.threads(rows)
        governor.took(rows, threads, speed(threads))
        used.append(threads)
    return used


@pytest.mark.parametrize("most", [2, 3, 8])
def test_all_threads_are_used_where_they_are_faster(most: int) -> None:
    used = passes(Governor(most), quiet, 400)

    assert used[-50:].count(most) >= 45


def test_a_busy_neighbour_leaves_one_thread_and_costs_little() -> None:
    governor = Governor(2)
    passes(governor, quiet, 100)

    used = passes(governor, crowded, 1000)

    took = sum(crowded(threads) for threads in used)
    assert used[-100:].count(1) >= 99
    assert took < 1.15 * 1000 * crowded(1)


def test_the_second_thread_comes_back_when_the_neighbour_has_gone() -> None:
    governor = Governor(2)
    passes(governor, crowded, 300)

    used = passes(governor, quiet, 600)

    assert used[-50:].count(2) >= 45


def test_long_passes_and_short_ones_are_judged_apart() -> None:
    governor = Governor(2)
    passes(governor, quiet, 100, rows=128)
    passes(governor, crowded, 100, rows=1)

    assert passes(governor, quiet, 10, rows=128).count(2) >= 9
    assert passes(governor, crowded, 10, rows=1).count(1) >= 9


def test_one_thread_is_one_thread() -> None:
    assert set(passes(Governor(1), crowded, 50)) == {1}
