"""Streams are read line by line and replayed in order; what is wrong in a file is named."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gateway.cache.parsed import BUCKETS, Parsed, parse
from gateway.cache.partition import Vector
from gateway.cache.replay import StreamError, StreamRow, entries, read_stream, replay, write_decisions
from gateway.cache.semantic import ELSE, Candidate, Entry, Thresholds


def read(text: str) -> Parsed:
    return parse(text, [1.0] * BUCKETS)


def sure(query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> npt.NDArray[np.float64]:
    return np.asarray(cosines, dtype=np.float64)


def test_a_hit_serves_and_only_a_miss_is_inserted(tmp_path: Path) -> None:
    rows = [StreamRow(7 + place, f"q{place}", "facts", answer) for place, answer in enumerate("aab")]
    asked = entries(rows, [np.array(one, dtype=np.float32) for one in ((1, 0), (0.8, 0.6), (0.6, 0.8))], read)

    decided = list(replay(rows, asked, sure, Thresholds({ELSE: 0.7})))
    write_decisions(decided, tmp_path / "out.jsonl")

    assert [one.hit for one in decided] == [False, True, False]  # the third is near the second, which was not inserted
    told = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert told[0] == {"id": 7, "hit": False}
    assert (told[1]["answer_id"], told[1]["of"], told[1]["probability"]) == ("a", 7, pytest.approx(0.8))


def test_an_empty_stream_has_no_decisions() -> None:
    assert list(replay([], [], sure, Thresholds({ELSE: 0.7}))) == []


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": 1}', '{"id": "1", "query": "a", "category": "b", "answer_id": "c"}', "7"]
)
def test_a_broken_line_is_named(line: str, tmp_path: Path) -> None:
    good = '{"id": 0, "query": "a", "category": "b", "answer_id": "c"}'
    (tmp_path / "s.jsonl").write_text(f"{good}\n\n{line}\n")

    with pytest.raises(StreamError, match=r"s\.jsonl:3"):
        read_stream(tmp_path / "s.jsonl")


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"id": 0, "query": "a", "category": "b", "answer_id": "c"}\n' * 2)

    with pytest.raises(StreamError, match="one id"):
        read_stream(tmp_path / "s.jsonl")
