"""Lines on disk: order, bounds, crashes, heirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An open, empty spool of small segments."""
    spool = Spool(tmp_path, max_bytes=1_000, segment_bytes=30)
    spool.open()
    yield spool
    spool.close()


def _lines(first: int, last: int) -> list[bytes]:
    return [b"line %04d\n" % number for number in range(first, last)]


def _drained(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while not spool.empty:
        found += spool.read(4)
        spool.advance()
    return found


def test_lines_come_back_in_order_over_many_segments(spool: Spool) -> None:
    for start in range(0, 20, 5):
        spool.append(_lines(start, start + 5))

    assert _drained(spool) == _lines(0, 20)
    assert spool.bytes == 0


def test_a_read_gives_the_same_lines_until_they_are_safe(spool: Spool) -> None:
    spool.append(_lines(0, 3))

    assert spool.read(2) == spool.read(2) == _lines(0, 2)
    spool.advance()
    assert spool.read(2) == _lines(2, 3)


def test_lines_that_come_during_a_replay_follow_behind(spool: Spool) -> None:
    spool.append(_lines(0, 2))
    first = spool.read(1)
    spool.append(_lines(2, 4))
    spool.advance()

    assert first + _drained(spool) == _lines(0, 4)


def test_over_the_bound_the_newest_lines_are_refused(spool: Spool) -> None:
    kept = spool.append(_lines(0, 200))

    assert kept == 1_000 // len(_lines(0, 1)[0])
    assert spool.append(_lines(200, 201)) == 0
    assert _drained(spool) == _lines(0, kept)


def test_an_empty_spool_gives_nothing(spool: Spool) -> None:
    assert spool.read(10) == []
    spool.advance()
    assert spool.empty


def test_what_is_left_at_the_end_is_adopted_by_the_next(spool: Spool, tmp_path: Path) -> None:
    spool.append(_lines(0, 10))
    spool.close()
    heir = Spool(tmp_path)
    heir.open()

    assert heir.bytes == 100 and _drained(heir) == _lines(0, 10)
    heir.close()
    assert [path.name for path in tmp_path.iterdir()] == ["adopt.lock"]


def test_several_dead_processes_are_adopted_the_oldest_first(tmp_path: Path) -> None:
    for folder, start in (("0002-20-b", 5), ("0001-99-a", 0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "000000000001.jsonl").write_bytes(b"".join(_lines(start, start + 5)))
    heir = Spool(tmp_path)
    heir.open()
    heir.append(_lines(10, 12))

    assert _drained(heir) == _lines(0, 12)
    heir.close()


def test_a_living_process_keeps_its_spool(spool: Spool, tmp_path: Path) -> None:
    spool.append(_lines(0, 2))
    other = Spool(tmp_path)
    other.open()

    assert other.empty
    other.close()
    assert _drained(spool) == _lines(0, 2)


def test_a_torn_last_line_is_skipped_and_counted_once(spool: Spool, tmp_path: Path) -> None:
    spool.append(_lines(0, 2))
    spool.close()
    (segment,) = tmp_path.glob("*/*.jsonl")
    with segment.open("ab") as file:
        file.write(b"line 000")
    heir = Spool(tmp_path)
    heir.open()

    assert heir.read(10) == heir.read(10) == _lines(0, 2)
    heir.advance()
    assert (heir.torn, heir.empty, heir.bytes) == (1, True, 0)
    heir.close()


def test_a_segment_that_someone_removed_does_not_hold_back_the_rest(spool: Spool, tmp_path: Path) -> None:
    for start in range(0, 9, 3):
        spool.append(_lines(start, start + 3))
    min(tmp_path.glob("*/*.jsonl")).unlink()

    assert _drained(spool) == _lines(3, 9)


def test_a_failed_write_leaves_no_half_line(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append(_lines(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        with pytest.raises(OSError, match="space"):
            spool.append(_lines(1, 2))

    spool.append(_lines(2, 3))

    assert _drained(spool) == [*_lines(0, 1), *_lines(2, 3)]
    assert spool.torn == 0


def test_the_folder_is_private(spool: Spool, tmp_path: Path) -> None:
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())

    assert folder.stat().st_mode & 0o077 == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(steps=st.lists(st.sampled_from(["append", "append", "read", "advance", "restart"]), max_size=25))
def test_no_order_of_events_loses_or_reorders_a_line(steps: list[str], tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=25)
    spool.open()
    written = safe = 0
    for step in steps:
        if step == "append":
            written += spool.append(_lines(written, written + 2))
        elif step == "restart":
            spool.close()
            spool = Spool(tmp_path, segment_bytes=25)
            spool.open()
        elif (lines := spool.read(3)) and step == "advance":
            spool.advance()
            safe = int(lines[-1].split()[1]) + 1
    rest = _drained(spool)
    spool.close()

    assert rest == _lines(written - len(rest), written)
    assert len(rest) >= written - safe


def _no_space(_: int) -> None:
    raise OSError(28, "no space left")
