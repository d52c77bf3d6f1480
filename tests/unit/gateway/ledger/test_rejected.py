"""The file for records that no database takes."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.ledger.record import Record
from gateway.ledger.rejected import put_aside


def test_each_record_is_kept_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "rejected.jsonl"
    put_aside(path, [("too odd", Record("req_1", 1.0, "chat", model=object()))])  # type: ignore[arg-type]
    put_aside(path, [("also", {"id": "req_2"}), ("half a character", {"id": "\ud800"})])

    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert [line["reason"] for line in lines] == ["too odd", "also", "half a character"]
    assert lines[0]["record"]["id"] == "req_1" and "object object" in lines[0]["record"]["model"]
    assert lines[2]["record"] == "dict, not showable"
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_file_grows_no_further(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    for _ in range(10):
        put_aside(path, [("r", {"id": "x"})], max_bytes=100)

    assert 0 < path.stat().st_size <= 100
