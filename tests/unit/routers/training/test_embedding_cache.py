"""The cache asks for each text once, and survives other processes and torn files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from routers.training.dataset import Floats
from routers.training.embedding_cache import cached
from tests.unit.routers.training.folders import embed

WRITER = """
import sys
from pathlib import Path
from routers.training.embedding_cache import cached
from tests.unit.routers.training.folders import embed
ask = cached(embed, "one", Path(sys.argv[1]))
for number in range(12):
    texts = [f"{sys.argv[2]} {number} {place}" for place in range(20)]
    assert (ask(texts) == embed(texts)).all()
"""


class Counting:
    """An embedder that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Floats:
        self.asked += texts
        return embed(texts)


def test_a_text_is_embedded_once_however_often_it_comes(tmp_path: Path) -> None:
    first, second = Counting(), Counting()

    once = cached(first, "one", tmp_path)(["a", "bb", "a"])
    again = cached(second, "one", tmp_path)(["bb", "ccc", "a"])

    assert first.asked == ["a", "bb"] and second.asked == ["ccc"]
    assert np.array_equal(once, embed(["a", "bb", "a"])) and np.array_equal(again, embed(["bb", "ccc", "a"]))


def test_embedders_do_not_share_vectors(tmp_path: Path) -> None:
    counting = Counting()
    cached(embed, "one/x", tmp_path)(["a"])

    cached(counting, "two/x", tmp_path)(["a"])

    assert counting.asked == ["a"]


@pytest.mark.parametrize("kept", [0, 1, 40, 300])
def test_a_torn_file_is_made_anew(tmp_path: Path, kept: int) -> None:
    cached(embed, "one", tmp_path)([f"text {number}" for number in range(9)])
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:kept])

    found = cached(embed, "one", tmp_path)(["text 3"])

    assert np.array_equal(found, embed(["text 3"]))
    assert np.array_equal(cached(Counting(), "one", tmp_path)(["text 3"]), found)


def test_processes_that_write_at_once_leave_a_whole_file_and_no_other(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), name] for name in ("a", "b")]

    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    said = [process.communicate(timeout=120)[1] for process in running]

    assert said == [b"", b""]
    assert [file.name for file in tmp_path.iterdir()] == ["one.npz"]
    counting = Counting()
    cached(counting, "one", tmp_path)([f"a 11 {place}" for place in range(20)])
    with np.load(tmp_path / "one.npz") as stored:
        assert len(stored["keys"]) == len(stored["vectors"]) >= 20


def test_strange_texts_are_told_apart(tmp_path: Path) -> None:
    ask = cached(embed, "one", tmp_path)

    found = ask(["", "\ud800", "\0"])

    assert np.array_equal(found, embed(["", "\ud800", "\0"]))
