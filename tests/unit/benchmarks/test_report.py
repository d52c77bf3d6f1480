"""Medians, paired ratios and tables."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks.gateway import report
from benchmarks.gateway.load import LoadResult, Spread
from benchmarks.gateway.measure import Memory, Spent
from benchmarks.gateway.memory import Sample, Soak
from benchmarks.gateway.phases import Phase

_MIB = 1024 * 1024


def _phase(requests: int, cpu_s: float | None, errors: dict[str, int] | None = None) -> Phase:
    spread = Spread(requests, 1.0, 2.0, 3.0, 4.0)
    cost = None if cpu_s is None else Spent(wall_s=2.0, cpu_s=cpu_s, foreign_s=0.1, stolen_s=0.1)
    load = LoadResult("wrk", requests, 2.0, errors or {}, spread, spread, spread)
    return Phase(load, cost, Spent(2.0, 0.5, 0.0, 0.0), None)


def _round(cpu_s: float | None) -> dict[str, Phase]:
    return {
        name: _phase(1000, cpu_s) for name in ("many", "single", "burst", "paced", "open", "realistic", "crowd", "rush")
    }


def test_figures_of_a_round_follow_from_its_phases() -> None:
    figures = report.figures(_round(0.4), chunks=10)

    assert figures["requests_per_s"] == 500.0
    assert figures["cpu_us_per_request"] == pytest.approx(400.0)
    assert figures["core_percent"] == pytest.approx(20.0)
    assert figures["foreign_core_percent"] == pytest.approx(10.0)
    assert figures["paced_cpu_us_per_chunk"] == pytest.approx(40.0)
    assert figures["paced_cpu_us_per_chunk_beyond_request"] == pytest.approx(0.0)
    assert figures["burst_chunks_per_s"] == 5000.0


def test_who_has_no_process_has_no_cpu_figures_but_all_times() -> None:
    figures = report.figures(_round(None), chunks=10)

    assert figures["cpu_us_per_request"] is None and figures["paced_cpu_us_per_chunk"] is None
    assert figures["p99_ms"] == 3.0 and figures["first_event_p50_ms"] == 1.0


def test_medians_leave_out_rounds_without_a_figure() -> None:
    rounds: list[report.Figures] = [{"a": 1.0, "b": None}, {"a": 9.0, "b": None}, {"a": 2.0, "b": None}, {"a": None}]

    assert report.medians([{"b": None, **one} for one in rounds]) == {"a": 2.0, "b": None}
    assert report.medians([]) == {}


def test_ratios_are_taken_within_a_round_before_the_median() -> None:
    ours: list[report.Figures] = [{"a": 2.0}, {"a": 30.0}, {"a": 8.0}]
    theirs: list[report.Figures] = [{"a": 1.0}, {"a": 10.0}, {"a": 2.0}]

    assert report.paired_ratios(ours, theirs) == {"a": 3.0}
    assert report.paired_ratios([{"a": 1.0}], [{"a": 0.0}]) == {"a": None}


def test_a_table_shows_a_dash_for_what_is_not_known() -> None:
    console = Console(file=io.StringIO(), width=100)
    columns = (report.Column("a", "first"), report.Column("b", "second", 2))

    console.print(report.table("Title", columns, {"nginx": {"a": 27138.4, "b": None}}))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    row = next(line for line in shown.splitlines() if "nginx" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["nginx", "27,138", "-"]


def test_errors_are_summed_over_rounds_and_named_by_phase() -> None:
    rounds = [{"open": _phase(1, 0.1, {"reset": 2})}, {"open": _phase(1, 0.1, {"reset": 1, "status 502": 4})}]

    assert report.error_lines("nginx", rounds) == ["nginx, phase open: errors {'reset': 3, 'status 502': 4}"]


@pytest.mark.parametrize(
    ("growth", "errors", "flat"), [(4 * _MIB, {}, True), (5 * _MIB, {}, False), (0, {"reset": 1}, False)]
)
def test_a_soak_is_flat_only_under_5_mb_and_without_errors(growth: int, errors: dict[str, int], flat: bool) -> None:
    first, last = (Memory(size, size, size) for size in (50 * _MIB, 50 * _MIB + growth))

    soak = Soak("fingerpost", 5000, (Sample(0, first), Sample(100_000, last)), errors)

    assert soak.flat is flat
    assert report.soak_line(soak).endswith(": flat" if flat else ": NOT FLAT")
