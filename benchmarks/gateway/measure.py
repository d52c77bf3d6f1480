"""What a process tree costs, read from /proc (Linux): CPU seconds, resident memory, how busy a core was.

Loopback packets are processed in the sender's system time, so part of the network's work is in these figures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that count here; times in clock ticks, threads included."""

    pid: int
    parent: int
    user_ticks: int
    system_ticks: int
    reaped_ticks: int

    @property
    def ticks(self) -> int:
        """Own time and that of children that have ended and been waited for."""
        return self.user_ticks + self.system_ticks + self.reaped_ticks


def parse_stat(text: str) -> ProcessStat:
    """Parse one /proc/PID/stat line; the name in brackets may itself hold spaces and brackets (proc(5))."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    return ProcessStat(
        pid=int(pid),
        parent=int(fields[1]),
        user_ticks=int(fields[11]),
        system_ticks=int(fields[12]),
        reaped_ticks=int(fields[13]) + int(fields[14]),
    )


def descendants(root: int, processes: Iterable[ProcessStat]) -> list[ProcessStat]:
    """The root and everything below it, parents before children; empty if the root is gone."""
    by_parent: dict[int, list[ProcessStat]] = {}
    found: list[ProcessStat] = []
    for process in processes:
        by_parent.setdefault(process.parent, []).append(process)
        if process.pid == root:
            found.append(process)
    for process in found:
        found.extend(by_parent.get(process.pid, ()))
    return found


def tree(root: int) -> list[ProcessStat]:
    """The live processes at and below `root`."""
    return descendants(root, _all_processes())


def _all_processes() -> Iterable[ProcessStat]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                yield parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process tree in bytes: resident, proportional share, and private to it."""

    rss: int
    pss: int
    private: int


def parse_smaps_rollup(text: str) -> Memory:
    """Parse /proc/PID/smaps_rollup (values there are in kB)."""
    kilobytes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            kilobytes[name] = int(value.split()[0])
    private = kilobytes.get("Private_Clean", 0) + kilobytes.get("Private_Dirty", 0)
    return Memory(kilobytes["Rss"] * 1024, kilobytes["Pss"] * 1024, private * 1024)


def tree_memory(root: int) -> Memory:
    """Sum over the tree; shared pages count once for each process in `rss`, by share in `pss`."""
    parts = [part for one in tree(root) if (part := _memory(one.pid)) is not None]
    return Memory(sum(p.rss for p in parts), sum(p.pss for p in parts), sum(p.private for p in parts))


def _memory(pid: int) -> Memory | None:
    """None for a process that has ended (one that nobody has waited for yet has an empty file)."""
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_smaps_rollup(text) if text else None


def parse_core_ticks(text: str, core: int) -> tuple[int, int]:
    """(busy, stolen) ticks of one core from /proc/stat; waiting for disks is not busy, guests are in user time."""
    for line in text.splitlines():
        name, _, values = line.partition(" ")
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values.split()[:8])
            return user + nice + system + irq + softirq, steal
    raise ValueError(f"/proc/stat has no line for core {core}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of the clock, of a tree's CPU time and of a core."""

    at_s: float
    cpu_s: float
    core_busy_s: float
    core_stolen_s: float


def snapshot(root: int, core: int) -> Snapshot:
    """Read now. CPU times advance in steps of one tick (usually 10 ms)."""
    busy, stolen = parse_core_ticks((PROC / "stat").read_text(), core)
    ticks = sum(process.ticks for process in tree(root))
    return Snapshot(time.monotonic(), ticks * TICK_S, busy * TICK_S, stolen * TICK_S)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one phase cost: CPU of the tree, and what others took from the same core meanwhile."""

    wall_s: float
    cpu_s: float
    foreign_s: float
    stolen_s: float


def spent(before: Snapshot, after: Snapshot) -> Spent:
    """The difference of two readings of the same tree and core."""
    cpu_s = after.cpu_s - before.cpu_s
    return Spent(
        wall_s=after.at_s - before.at_s,
        cpu_s=cpu_s,
        foreign_s=max(after.core_busy_s - before.core_busy_s - cpu_s, 0.0),
        stolen_s=after.core_stolen_s - before.core_stolen_s,
    )


def micros_each(cpu_s: float, count: int) -> float | None:
    """CPU microseconds per item; None where nothing was done."""
    return cpu_s * 1e6 / count if count else None


def micros_each_beyond(cpu_s: float, count: int, base_count: int, base_micros: float | None) -> float | None:
    """CPU microseconds per item after `base_count` items at `base_micros` are taken off (never below 0)."""
    if base_micros is None:
        return None
    return micros_each(max(cpu_s - base_count * base_micros / 1e6, 0.0), count)
