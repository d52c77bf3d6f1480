"""`python -m benchmarks.gateway --json FILE [--quick]`: run all contestants in turns, print tables, write JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks.gateway import machine, report
from benchmarks.gateway.contestant import CannotStart, Contestant
from benchmarks.gateway.measure import Memory, tree_memory
from benchmarks.gateway.memory import Soak, soak
from benchmarks.gateway.phases import QUICK, Phase, Plan, Stage, run_round
from benchmarks.gateway.processes import Processes, cores, free_port
from benchmarks.gateway.proxies import RECIPES, ROOT, Running, ask, bring_up
from benchmarks.gateway.wrk import find_wrk

_YARDSTICKS = ("nginx", "fastapi", "tensorzero", "litellm")
_QUICK_SOAK = 10_000


@dataclass(slots=True)
class Outcome:
    """Everything that a run found out."""

    plan: Plan
    machine: dict[str, object]
    missing: dict[str, str] = field(default_factory=dict)
    idle: dict[str, Memory] = field(default_factory=dict)
    after: dict[str, Memory] = field(default_factory=dict)
    rounds: dict[str, list[dict[str, Phase]]] = field(default_factory=dict)
    loads: list[tuple[float, float, float]] = field(default_factory=list)
    soaks: list[Soak] = field(default_factory=list)

    def figures(self) -> dict[str, list[report.Figures]]:
        """Per contestant, the figures of each round."""
        return {name: [report.figures(one, self.plan.chunks) for one in rounds] for name, rounds in self.rounds.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="where the figures and every raw round go")
    parser.add_argument("--quick", action="store_true", help="one round of short phases and a short soak")
    parser.add_argument("--rounds", type=int, help="rounds in which all take turns (default 3, quick 1; 0: soak only)")
    parser.add_argument(
        "--only", action="append", choices=list(RECIPES), help="measure only these (may be given several times)"
    )
    parser.add_argument("--soak", type=int, help="requests of Fingerpost's soak, 0 for none (default 100000)")
    return parser.parse_args()


def _rounds(arguments: argparse.Namespace) -> int:
    asked: int | None = arguments.rounds
    return asked if asked is not None else 1 if arguments.quick else 3


async def _measure(arguments: argparse.Namespace, console: Console) -> Outcome:
    task = asyncio.current_task()
    if task is not None:  # so that SIGTERM, too, passes through every `finally`
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    contestant_core, load_core = cores()
    outcome = Outcome(QUICK if arguments.quick else Plan(), machine.facts())
    os.sched_setaffinity(0, {load_core})
    outcome.machine |= {"contestant_core": contestant_core, "load_core": load_core}
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as scratch:
        folder = Path(scratch)
        with Processes(folder) as processes:
            port, upstream_pid = await _start_upstream(processes, load_core, outcome.plan.chunks)
            stage = Stage(upstream_pid, port, contestant_core, load_core, folder)
            names = arguments.only or list(RECIPES)
            contestants = await _bring_up_all(names, port, processes, stage, outcome, console)
            await _run_rounds(contestants, stage, _rounds(arguments), outcome, console)
            await _run_soak(contestants, arguments, outcome, console)
    return outcome


async def _start_upstream(processes: Processes, core: int, chunks: int) -> tuple[int, int]:
    port = free_port()
    command = (
        sys.executable, "-m", "benchmarks.gateway.upstream", "--port", str(port), "--chunks", str(chunks)
    )  # fmt: skip
    started = processes.start("upstream", command, core, {"PYTHONPATH": str(ROOT)})
    target = Contestant("upstream", port).target("instant", stream=False)
    while await ask(target, 0):
        if started.ended is not None:
            raise SystemExit(f"the upstream ended at start: {started.last_words()}")
        await asyncio.sleep(0.05)
    return port, started.pid


async def _bring_up_all(
    names: list[str], port: int, processes: Processes, stage: Stage, outcome: Outcome, console: Console
) -> list[Running]:
    if find_wrk() is None:
        console.print("wrk is not installed (Debian: apt-get install wrk): our own client loads instead, less hard")
    running: list[Running] = []
    for name in names:
        try:
            pair = (stage.contestant_core, stage.load_core)
            one = await bring_up(RECIPES[name], port, stage.folder, processes, pair, outcome.plan.chunks)
        except CannotStart as reason:
            outcome.missing[name] = str(reason)
            console.print(f"{name} is left out: {reason}", markup=False)
            continue
        running.append(one)
        outcome.rounds[name] = []
        if one.pid:
            outcome.idle[name] = tree_memory(one.pid)
    return running


async def _run_rounds(
    contestants: list[Running], stage: Stage, rounds: int, outcome: Outcome, console: Console
) -> None:
    for number in range(1, rounds + 1):
        outcome.loads.append(os.getloadavg())
        for one in tuple(contestants):
            console.print(f"round {number} of {rounds}: {one.name}")
            measured = await run_round(one, stage, outcome.plan)
            if one.process and one.process.ended is not None:
                _drop(one, contestants, outcome, console)
            else:
                outcome.rounds[one.name].append(measured)
    for one in contestants:
        if one.pid:
            outcome.after[one.name] = tree_memory(one.pid)


def _drop(one: Running, contestants: list[Running], outcome: Outcome, console: Console) -> None:
    """Leave out a contestant that died; its rounds would have no partner in the ratios."""
    contestants.remove(one)
    del outcome.rounds[one.name]
    outcome.missing[one.name] = f"died under load: {one.process.last_words() if one.process else ''}"
    console.print(f"{one.name} {outcome.missing[one.name]}", markup=False)


async def _run_soak(
    contestants: list[Running], arguments: argparse.Namespace, outcome: Outcome, console: Console
) -> None:
    requests = arguments.soak if arguments.soak is not None else _QUICK_SOAK if arguments.quick else 100_000
    ours = [one for one in contestants if one.name in ("fingerpost", "fingerpost-full")]
    chosen = ours[-1] if ours else None
    if chosen is None or not requests:
        return
    console.print(f"soak: {requests:,} requests through {chosen.name}")
    outcome.soaks.append(await soak(chosen, requests))


def _summarise(outcome: Outcome) -> tuple[dict[str, report.Figures], dict[str, dict[str, report.Figures]]]:
    figures = outcome.figures()
    rows = {name: report.medians(rounds) for name, rounds in figures.items()}
    ratios = {
        yardstick: {
            name: report.paired_ratios(rounds, figures[yardstick])
            for name, rounds in figures.items()
            if name not in (yardstick, "direct")
        }
        for yardstick in _YARDSTICKS
        if yardstick in figures
    }
    return rows, ratios


def _publish(outcome: Outcome, console: Console, file: Path) -> None:
    rows, ratios = _summarise(outcome)
    if any(outcome.rounds.values()):
        report.show(console, rows, ratios)
        console.print(report.memory_table(outcome.idle, outcome.after))
    for name, rounds in outcome.rounds.items():
        for line in report.error_lines(name, rounds):
            console.print(line, markup=False)
    for one in outcome.soaks:
        console.print(report.soak_line(one))
    told = {"medians": rows, "ratios": ratios, "figures_by_round": outcome.figures(), **asdict(outcome)}
    file.write_text(json.dumps(told, indent=1) + "\n")
    console.print(f"written: {file}")


def main() -> int:
    """Run; 0 when done, 1 when no contestant could be measured, 2 when the file cannot be written, 130 when stopped."""
    arguments, console = _arguments(), Console()
    if not console.is_terminal:
        console = Console(width=132)
    if not arguments.json.parent.is_dir():
        console.print(f"cannot write {arguments.json}: there is no folder {arguments.json.parent}")
        return 2
    try:
        outcome = uvloop.run(_measure(arguments, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; everything that was started has been stopped too")
        return 130
    _publish(outcome, console, arguments.json)
    return 0 if outcome.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
