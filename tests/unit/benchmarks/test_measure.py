"""What a process tree costs, read from /proc."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks.gateway.measure import (
    Memory,
    ProcessStat,
    Snapshot,
    descendants,
    micros_each,
    micros_each_beyond,
    parse_core_ticks,
    parse_smaps_rollup,
    parse_stat,
    snapshot,
    spent,
    tree,
    tree_memory,
)

_STAT = "4242 (a (very) odd name) S 17 4242 4242 0 -1 4194560 1 2 3 4 150 25 30 5 20 0 7 0 99 1 2 3"


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields() -> None:
    process = parse_stat(_STAT)

    assert process == ProcessStat(pid=4242, parent=17, user_ticks=150, system_ticks=25, reaped_ticks=35)
    assert process.ticks == 210


def test_descendants_are_the_root_and_everything_below_it_and_nothing_else() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    processes = [ProcessStat(pid, parent, 0, 0, 0) for pid, parent in reversed(parents.items())]

    assert [one.pid for one in descendants(10, processes)] == [10, 11, 12]
    assert descendants(99, processes) == []


def test_rollup_is_read_in_bytes() -> None:
    text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1500 kB\n"
    text += "Private_Clean:  100 kB\nPrivate_Dirty:  900 kB\nLocked:  0 kB\n"

    assert parse_smaps_rollup(text) == Memory(rss=2048 * 1024, pss=1500 * 1024, private=1000 * 1024)


def test_busy_ticks_of_a_core_leave_out_idle_and_disk_waits() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 1000 2000 8 16 32 0 0\ncpu10 7 7 7 7 7 7 7 7 0 0\nintr 5\n"

    assert parse_core_ticks(text, 0) == (1 + 2 + 4 + 8 + 16, 32)
    with pytest.raises(ValueError, match="core 1"):
        parse_core_ticks(text, 1)


def test_what_others_took_is_the_busy_time_that_the_tree_does_not_explain() -> None:
    before = Snapshot(at_s=10.0, cpu_s=1.0, core_busy_s=5.0, core_stolen_s=0.0)
    after = Snapshot(at_s=12.0, cpu_s=2.0, core_busy_s=6.5, core_stolen_s=0.25)

    cost = spent(before, after)

    assert (cost.wall_s, cost.cpu_s, cost.foreign_s, cost.stolen_s) == (2.0, 1.0, 0.5, 0.25)


def test_cpu_of_this_process_grows_by_what_it_burns() -> None:
    core = min(os.sched_getaffinity(0))
    before, began = snapshot(os.getpid(), core), time.process_time()
    while time.process_time() < began + 0.1:
        sum(range(1000))

    assert spent(before, snapshot(os.getpid(), core)).cpu_s >= 0.08


def test_memory_of_this_process_is_believable() -> None:
    memory = tree_memory(os.getpid())

    assert 0 < memory.private <= memory.pss <= memory.rss
    assert tree(os.getpid())[0].pid == os.getpid()


def test_cost_per_item_is_in_microseconds_and_absent_without_items() -> None:
    assert micros_each(0.5, 1000) == 500.0
    assert micros_each(0.5, 0) is None


def test_cost_beyond_requests_takes_off_what_the_requests_cost() -> None:
    assert micros_each_beyond(1.0, 5000, base_count=50, base_micros=2000.0) == pytest.approx(180.0)
    assert micros_each_beyond(0.1, 5000, base_count=100, base_micros=2000.0) == 0.0
    assert micros_each_beyond(0.1, 5000, base_count=100, base_micros=None) is None
