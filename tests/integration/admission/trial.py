"""One trial of a store: worker processes under load, a sampler beside them, some killed, and the sums afterwards."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gateway.admission.gauges import Expired, Gauges, GaugesUnavailable, Level
from tests.integration.admission.streams import Plan, budgets, open_gauges

ROOT = Path(__file__).parents[3]
_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What is left to judge: `tallies` of the workers that lived, the sampler's view, levels at the end, and what
    must have been spent: settled costs of leases that ended, whole reservations of those that expired."""

    tallies: Sequence[dict[str, Any]]
    sampled: dict[str, Any]
    levels: dict[str, Level]
    expired: Sequence[Expired]
    owed_nanousd: int

    @property
    def summary(self) -> str:
        """One line for people."""
        figures = {
            name: sum(tally[name] for tally in self.tallies) for name in ("granted", "refused", "extended", "cut")
        }
        times = sorted(ms for tally in self.tallies for ms in tally["admit_ms"])
        half, most = times[len(times) // 2], times[len(times) * 99 // 100]
        return (
            f"{figures}, {len(self.expired)} expired, {self.sampled['samples']} samples, fullest "
            f"{self.sampled['fullest']:.4f}, admit p50 {half:.1f} ms, p99 {most:.1f} ms"
        )


async def run_trial(
    url: str, folder: Path, *, workers: int = 4, killed: int = 2, limit_nanousd: int, plan: Plan | None = None
) -> Trial:
    """Start all, SIGKILL the first `killed` workers while the budget fills, wait for the others, reap, and add up."""
    plan = replace(plan or Plan(url, "", 0), url=url, run=secrets.token_hex(4), limit_nanousd=limit_nanousd)
    sampler = await _start("sample", plan, folder / "sampler")
    running = []
    for number in range(workers):
        own = replace(plan, seed=number, journal=str(folder / f"journal{number}"))
        running.append(await _start("work", own, folder / f"worker{number}"))
    try:
        for process in running:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        await _filling(plan, [folder / f"journal{number}" for number in range(killed)])
        for process in running[:killed]:
            process.kill()
        await _full(plan)
        tallies = [await _seen(process, plan.seconds) for process in running[killed:]]
        async with open_gauges(url, plan.lease_s) as gauges:
            expired = await _reap(gauges, plan)
            sampler.send_signal(signal.SIGTERM)
            sampled = await _seen(sampler)
            levels = dict(zip(budgets(plan.run, 1), await gauges.levels(_budgets(plan)), strict=True))
    finally:
        for process in (sampler, *running):
            if process.returncode is None:
                process.kill()
            await asyncio.wait_for(process.wait(), _END_S)
    return Trial(tallies, sampled, levels, expired, _owed(folder, workers, expired))


async def _filling(plan: Plan, journals: Sequence[Path]) -> None:
    """Until the shared budget is a third full and those who will be killed are at work, so that they hold leases.

    Or until the budget is nearly full.
    """

    def holds(level: Level) -> bool:
        at_work = all(journal.exists() and journal.stat().st_size for journal in journals)
        return level.reserved_nanousd > 0 and _taken(level) > (1 / 3 if at_work else 0.8)

    await _until(plan, holds)


async def _full(plan: Plan) -> None:
    """Until the shared budget is nearly used up, however long a busy machine needs for that."""
    await _until(plan, lambda level: _taken(level) > 0.95)


async def _until(plan: Plan, holds: Callable[[Level], bool]) -> None:
    async with open_gauges(plan.url, plan.lease_s) as gauges, asyncio.timeout(_END_S):
        while True:
            with suppress(GaugesUnavailable):  # too busy to say
                (level,) = await gauges.levels(_budgets(plan)[:1])
                if holds(level):
                    return
            await asyncio.sleep(0.02)


def _taken(level: Level) -> float:
    return (level.spent_nanousd + level.reserved_nanousd) / level.budget.limit_nanousd


async def _start(role: str, plan: Plan, path: Path) -> asyncio.subprocess.Process:
    path.write_text(json.dumps(asdict(plan)))
    command = (sys.executable, "-m", "tests.integration.admission.streams", role, str(path))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=2**26)
    assert process.stdout is not None
    async with asyncio.timeout(_END_S):
        assert await process.stdout.readline() == b"ready\n"
    return process


async def _seen(process: asyncio.subprocess.Process, at_work_s: float = 0.0) -> dict[str, Any]:
    """What a process printed in the end."""
    async with asyncio.timeout(_END_S + at_work_s):
        output, _ = await process.communicate(b"")  # which also ends its input
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


async def _reap(gauges: Gauges, plan: Plan) -> Sequence[Expired]:
    """Until nothing is reserved any more; only here, so that every lease that expires is known."""
    expired: list[Expired] = []
    async with asyncio.timeout(_END_S):
        while True:
            expired += await gauges.reap()
            if not any(level.reserved_nanousd for level in await gauges.levels(_budgets(plan))):
                return expired
            await asyncio.sleep(0.05)


def _budgets(plan: Plan) -> Sequence[Any]:
    return tuple(budgets(plan.run, plan.limit_nanousd).values())


def _owed(folder: Path, workers: int, expired: Sequence[Expired]) -> int:
    """What the organisation must have spent: each lease once, at its settled cost or at its whole reservation."""
    owed = {}
    for number in range(workers):
        for line in (folder / f"journal{number}").read_text().splitlines():
            _, lease_id, amount = line.split()
            owed[lease_id] = int(amount)
    for lease in expired:
        owed[lease.lease_id] = lease.cost_nanousd
    assert len({lease.lease_id for lease in expired}) == len(expired)
    return sum(owed.values())
