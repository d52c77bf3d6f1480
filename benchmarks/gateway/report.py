"""Turns raw rounds into figures, medians, paired ratios and tables; measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.gateway.load import Spread
from benchmarks.gateway.measure import Memory, micros_each, micros_each_beyond
from benchmarks.gateway.memory import LIMIT_BYTES, Soak
from benchmarks.gateway.phases import Phase

Figures = dict[str, float | None]
Round = Mapping[str, Phase]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a table: its key, its heading and how many decimals it deserves."""

    key: str
    heading: str
    decimals: int = 0


REQUESTS = (
    Column("requests_per_s", "req/s"),
    Column("cpu_us_per_request", "CPU µs/req"),
    Column("core_percent", "core %"),
    Column("foreign_core_percent", "others' %", 1),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("single_p50_ms", "p50 ms, 1 conn.", 2),
    Column("open_p50_ms", "open p50 ms", 2),
    Column("open_p99_ms", "open p99 ms", 2),
)
STREAMS = (
    Column("paced_cpu_us_per_chunk", "CPU µs/chunk"),
    Column("paced_cpu_us_per_chunk_beyond_request", "less request"),
    Column("burst_cpu_us_per_chunk", "burst CPU µs/chunk", 1),
    Column("burst_chunks_per_s", "burst chunks/s"),
    Column("first_event_p50_ms", "first event p50 ms", 1),
    Column("first_event_p99_ms", "p99 ms", 1),
    Column("gap_p50_ms", "gap p50 ms", 2),
    Column("gap_p99_ms", "gap p99 ms", 2),
    Column("crowd_first_event_p50_ms", "300 streams: first event p50 ms", 1),
    Column("crowd_errors", "errors"),
    Column("rush_first_event_p50_ms", "300 at one moment: first event p50 ms", 1),
)
RATIOS = (
    Column("requests_per_s", "req/s", 2),
    Column("cpu_us_per_request", "CPU µs/req", 2),
    Column("paced_cpu_us_per_chunk", "CPU µs/chunk", 2),
    Column("burst_cpu_us_per_chunk", "burst CPU µs/chunk", 2),
    Column("single_p50_ms", "p50, 1 conn.", 2),
)


def figures(phases: Round, chunks: int) -> Figures:
    """The figures of one round of one contestant; None where it has no process or no good answer."""
    many, burst, paced = phases["many"], phases["burst"], phases["paced"]
    per_request = _cpu_each(many, many.load.requests)
    paced_chunks, burst_chunks = paced.load.requests * chunks, burst.load.requests * chunks
    return {
        "requests_per_s": many.load.per_s,
        "cpu_us_per_request": per_request,
        "upstream_cpu_us_per_request": micros_each(many.upstream.cpu_s, many.load.requests),
        "core_percent": 100 * many.cost.cpu_s / many.load.wall_s if many.cost else None,
        "foreign_core_percent": _foreign_percent(phases.values()),
        **_times("", many.load.latency),
        **_times("single_", phases["single"].load.latency),
        **_times("open_", phases["open"].load.latency),
        "paced_cpu_us_per_chunk": _cpu_each(paced, paced_chunks),
        "paced_cpu_us_per_chunk_beyond_request": (
            micros_each_beyond(paced.cost.cpu_s, paced_chunks, paced.load.requests, per_request) if paced.cost else None
        ),
        "burst_cpu_us_per_chunk": _cpu_each(burst, burst_chunks),
        "burst_chunks_per_s": burst.load.per_s * chunks,
        **_times("first_event_", phases["realistic"].load.first_event),
        **_times("gap_", phases["realistic"].load.gap),
        **_times("crowd_first_event_", phases["crowd"].load.first_event),
        "crowd_errors": float(sum(phases["crowd"].load.errors.values())),
        **_times("rush_first_event_", phases["rush"].load.first_event),
    }


def _cpu_each(phase: Phase, count: int) -> float | None:
    return micros_each(phase.cost.cpu_s, count) if phase.cost else None


def _times(prefix: str, spread: Spread | None) -> Figures:
    return {
        f"{prefix}p50_ms": spread.p50_ms if spread else None,
        f"{prefix}p99_ms": spread.p99_ms if spread else None,
    }


def _foreign_percent(phases: Iterable[Phase]) -> float | None:
    """Share of the contestant's core that others used, over all phases: how noisy the round was."""
    costs = [phase.cost for phase in phases if phase.cost]
    wall_s = sum(cost.wall_s for cost in costs)
    return 100 * sum(cost.foreign_s + cost.stolen_s for cost in costs) / wall_s if wall_s else None


def medians(rounds: Sequence[Figures]) -> Figures:
    """Median of each figure over the rounds that have it."""
    keys = rounds[0] if rounds else ()
    return {key: _median(one[key] for one in rounds) for key in keys}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def paired_ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Figures:
    """Median over the rounds of ours / theirs within the same round (noise that both met cancels out)."""
    pairs = list(zip(ours, theirs, strict=True))
    keys = ours[0] if ours else ()
    return {key: _median(_ratio(one[key], other[key]) for one, other in pairs) for key in keys}


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def table(title: str, columns: Sequence[Column], rows: Mapping[str, Figures]) -> Table:
    """One table with a row for each contestant; a missing figure is a dash."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for column in columns:
        made.add_column(column.heading, justify="right")
    for name, row in rows.items():
        made.add_row(name, *(_shown(row.get(column.key), column.decimals) for column in columns))
    return made


def _shown(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def memory_table(idle: Mapping[str, Memory], after: Mapping[str, Memory]) -> Table:
    """Resident memory when ready and after all rounds."""
    made = Table(title="Memory, MB", title_justify="left")
    for heading in ("", "RSS ready", "RSS after", "PSS after", "private after"):
        made.add_column(heading, justify="right" if heading else "left")
    for name, first in idle.items():
        last = after.get(name, first)
        made.add_row(name, *(f"{size / 1e6:.1f}" for size in (first.rss, last.rss, last.pss, last.private)))
    return made


def soak_line(soak: Soak) -> str:
    """The verdict of a soak in one line."""
    count = soak.samples[-1].requests
    wrong = f", errors {soak.errors}" if soak.errors else ""
    grew = f"{soak.growth_bytes / 2**20:+.2f} MiB over {count:,} requests after {soak.warm_up:,}"
    return (
        f"soak of {soak.name}: {grew} (limit {LIMIT_BYTES / 2**20:.0f}){wrong}: {'flat' if soak.flat else 'NOT FLAT'}"
    )


def error_lines(name: str, rounds: Sequence[Round]) -> list[str]:
    """One line for each phase of a contestant that had bad answers, rounds summed."""
    summed: dict[str, dict[str, int]] = {}
    for phases in rounds:
        for phase, result in phases.items():
            for kind, count in result.load.errors.items():
                kinds = summed.setdefault(phase, {})
                kinds[kind] = kinds.get(kind, 0) + count
    return [f"{name}, phase {phase}: errors {kinds}" for phase, kinds in summed.items()]


def show(console: Console, rows: Mapping[str, Figures], ratios: Mapping[str, Mapping[str, Figures]]) -> None:
    """Print the tables of figures and of ratios."""
    console.print(table("Requests (32 connections unless said; medians of the rounds)", REQUESTS, rows))
    console.print(table("Streams (paced: one event every 10 ms; burst: back to back)", STREAMS, rows))
    for yardstick, compared in ratios.items():
        if compared:
            console.print(table(f"Times {yardstick} (paired in each round)", RATIOS, compared))
