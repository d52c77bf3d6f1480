"""The tables that a run prints; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.runtime.summary import SPEEDS


def show(console: Console, told: Mapping[str, Any]) -> None:
    """Print the JSON file's figures as tables: over all rounds, and in brackets over the clean ones."""
    names = list(told["loaded"])
    console.print(speeds(told, names))
    console.print(ratios(told, [name for name in names if name != "ours"]))
    console.print(once(told, names))
    for threads, sizes in told["all_rounds"]["batch"].items():
        shown = ", ".join(f"{size}: {pair(value, told['batch'][threads][size])}" for size, value in sizes.items())
        console.print(f"batch, {threads} thread(s), tokens/s in all by sequences: {shown}", markup=False)
    every, undisturbed = told["all_rounds"]["bandwidth"], told["bandwidth"]
    shown = ", ".join(f"{threads} thread(s) {pair(every[threads], undisturbed[threads], 1)}" for threads in every)
    console.print(f"read bandwidth, GB/s: {shown}", markup=False)
    for name, reason in told["missing"].items():
        console.print(f"{name} is missing: {reason}", markup=False)


def pair(whole: float | None, undisturbed: float | None, decimals: int = 0) -> str:
    """A figure over all rounds, then in brackets over the clean ones; a dash where there is none."""
    return f"{number(whole, decimals)} ({number(undisturbed, decimals)})"


def number(value: float | None, decimals: int = 0) -> str:
    """A figure with so many decimals, or a dash."""
    return "-" if value is None else f"{value:,.{decimals}f}"


def _made(title: str, headings: Sequence[str]) -> Table:
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for heading in headings:
        made.add_column(heading, justify="right")
    return made


def speeds(told: Mapping[str, Any], names: Sequence[str]) -> Table:
    """Tokens a second, and the share of what memory allows."""
    headings = [f"{phase}, {threads} thr." for phase in SPEEDS for threads in (1, 2)]
    made = _made("tokens/s: all rounds (clean rounds)", [*headings, "of bound, 1 thr.", "2 thr."])
    for name in names:
        cells = [pair(*_both(told, phase, str(threads), name)) for phase in SPEEDS for threads in (1, 2)]
        shares = [pair(*_both(told, "share_of_bound", str(threads), name), decimals=2) for threads in (1, 2)]
        made.add_row(name, *cells, *shares)
    return made


def ratios(told: Mapping[str, Any], names: Sequence[str]) -> Table:
    """How many times as fast as each other contestant ours is."""
    headings = [f"{phase}, {threads} thr." for phase in SPEEDS for threads in (1, 2)]
    made = _made("ours / theirs, paired in each round: all rounds (clean pairs)", headings)
    for name in names:
        cells = []
        for phase in SPEEDS:
            for threads in ("1", "2"):
                every = told["all_rounds"]["ratios"][phase].get(threads, {}).get(name)
                cells.append(pair(every, told["ratios"][phase].get(threads, {}).get(name), 2))
        made.add_row(name, *cells)
    return made


def once(told: Mapping[str, Any], names: Sequence[str]) -> Table:
    """What was measured once."""
    made = _made("once", ["setting", "load s", "again", "imports s", "resident MB", "peak MB", "perplexity"])
    for name in [*names, *(other for other in told["perplexity"] if other not in names)]:
        loads, memory = told["load_s"].get(name, {}), told["resident_mb"].get(name, {})
        made.add_row(
            name,
            told["loaded"].get(name, {}).get("setting", ""),
            *(number(loads.get(key), 2) for key in ("first", "again", "imports")),
            *(number(memory.get(key)) for key in ("resident", "peak")),
            number(told["perplexity"].get(name), 3),
        )
    return made


def _both(told: Mapping[str, Any], key: str, threads: str, name: str) -> tuple[float | None, float | None]:
    """A figure over all rounds and over the clean ones."""
    every: float | None = told["all_rounds"][key].get(threads, {}).get(name)
    undisturbed: float | None = told[key].get(threads, {}).get(name)
    return every, undisturbed
