"""Search that scans few vectors and goes by a graph among many."""

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from gateway.cache import nearby
from gateway.cache.nearby import Nearby
from gateway.cache.partition import Vector

FLOOR = 0.2


def unit(seed: int, rows: int) -> Vector:
    drawn = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in (("GRAPH_ROWS", 300), ("_FEW_ROWS", 100), ("MOST_BESIDE", 20), ("_HANDED", 64)):
        monkeypatch.setattr(nearby, name, rows)


def filled(vectors: Vector) -> Nearby:
    made = Nearby(16)
    for row, vector in enumerate(vectors):
        assert made.add(vector) == row
    return made


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def goes_by_graph(made: Nearby) -> bool:
    made.search(np.zeros(16, dtype=np.float32), 1, 2.0)
    return made.has_graph and not made.graph_wanted


def share_found(made: Nearby, vectors: Vector, queries: Vector, count: int = 4) -> float:
    """How many of the nearest rows of these vectors it finds, with their exact cosines."""
    right = wanted = 0
    for query in queries:
        rows, cosines = made.search(query, count, FLOOR)
        exact = vectors @ query
        assert np.allclose(exact[rows], cosines, atol=1e-5)
        assert (np.diff(cosines) <= 0).all() and (cosines >= FLOOR).all()
        best = [row for row in np.argsort(-exact)[:count].tolist() if exact[row] >= FLOOR]
        wanted += len(best)
        right += len(set(best) & set(rows.tolist()))
    return right / wanted


def test_few_vectors_need_no_graph() -> None:
    made = filled(unit(0, 300))

    assert not made.has_graph
    assert share_found(made, unit(0, 300), unit(1, 20)) == 1.0


def test_while_the_graph_grows_everything_is_scanned() -> None:
    vectors = unit(0, 600)
    made = filled(vectors)

    assert made.has_graph
    assert share_found(made, vectors, unit(1, 20)) >= 0.97


def test_the_graph_finds_nearly_all_that_a_scan_finds() -> None:
    vectors = unit(0, 900)
    made = filled(vectors)
    until(lambda: goes_by_graph(made))

    assert share_found(made, vectors, unit(1, 100)) >= 0.97
    assert all(made.search(vector, 1, FLOOR)[0].tolist() == [row] for row, vector in enumerate(vectors))


def test_what_is_added_or_removed_counts_at_once_beside_the_graph() -> None:
    vectors = unit(0, 900)
    made = filled(vectors)
    until(lambda: goes_by_graph(made))

    fresh = unit(7, 1)[0]
    row = made.add(fresh)
    assert made.search(fresh, 1, 0.99)[0].tolist() == [row]
    assert made.remove(5) == row
    assert made.search(fresh, 1, 0.99)[0].tolist() == [5]
    assert made.search(vectors[5], 1, 0.99)[0].tolist() == []


def test_it_keeps_its_recall_through_many_changes() -> None:
    rng = np.random.default_rng(3)
    vectors = unit(0, 600)
    made = filled(vectors)
    for vector in unit(5, 1200):
        row = int(rng.integers(len(vectors)))
        moved = made.remove(row)
        vectors[row] = vectors[moved]
        vectors[moved] = vector
        assert made.add(vector) == moved
    until(lambda: goes_by_graph(made))

    assert share_found(made, vectors, unit(1, 100)) >= 0.97


def test_expired_ones_hide_nobody() -> None:
    made = Nearby(16)
    vectors = unit(0, 400)
    for row, vector in enumerate(vectors):
        made.add(vector, 10.0 if row % 2 else 20.0)
    for noise in unit(9, 60):
        close = vectors[0] + 0.2 * noise
        made.add(close / np.linalg.norm(close), 10.0)
    until(lambda: goes_by_graph(made))

    for row in range(0, 400, 2):
        assert made.search(vectors[row], 1, FLOOR, 15.0)[0].tolist() == [row]
        assert made.search(vectors[row + 1], 1, 0.999, 15.0)[0].tolist() == []


def test_a_partition_that_shrinks_gives_its_graph_up() -> None:
    vectors = unit(0, 400)
    made = filled(vectors)
    while len(made) > 99:
        made.remove(len(made) - 1)

    assert not made.has_graph
    assert share_found(made, vectors[:99], unit(1, 20)) == 1.0


def test_without_a_graph_library_all_is_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    vectors = unit(0, 400)
    made = filled(vectors)

    until(lambda: not goes_by_graph(made) and not made.has_graph)

    assert share_found(made, vectors, unit(1, 20)) == 1.0


def test_processes_may_end_while_a_graph_grows() -> None:
    program = (
        "import time\n"
        "import numpy as np\n"
        "from gateway.cache.graph import Graph\n"
        "graph = Graph(384, 8)\n"
        "graph.put(range(20_000), np.random.default_rng(0).normal(size=(20_000, 384)).astype(np.float16))\n"
        "time.sleep(0.3)\n"
    )
    command = [sys.executable, "-c", program]

    # A thread in the library's code aborted about two in five of such ends.
    done = [subprocess.run(command, check=False, capture_output=True, text=True, timeout=60) for _ in range(5)]

    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 5
