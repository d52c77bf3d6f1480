"""An evaluation as files: evaluation.json with every figure, evaluation.md with tables for people."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from routers.training.bootstrap import Difference
from routers.training.judge import Round
from routers.training.summary import Row

JSON_FILE, MARKDOWN_FILE = "evaluation.json", "evaluation.md"

# Title, metric, decimals; a cell gets its interval against the best single model where there is one.
_CHOICES = (
    ("AIQ log", "aiq_log", 4),
    ("AIQ linear", "aiq_linear", 4),
    ("PF", "reward_PF", 4),
    ("BAL", "reward_BAL", 4),
    ("CF", "reward_CF", 4),
)
_MONEY = (
    ("score PF", "score_PF", 4),
    ("cost PF $", "cost_PF", 6),
    ("PerfGain", "perf_gain", 4),
    ("CostSave", "cost_save", 3),
    ("ParetoDist", "pareto_dist", 4),
    ("saved at 99 %", "saving_99", 3),
    ("score kept", "score_kept_99", 4),
    ("saved at 100 %", "saving_100", 3),
    ("score kept", "score_kept_100", 4),
    ("gained at equal cost", "gain_equal_cost", 4),
    ("at its cost x", "cost_equal_cost", 3),
    ("99 %, common (optimistic)", "saving_99_common", 3),
    ("100 %, common (optimistic)", "saving_100_common", 3),
    ("99 %, in sample (optimistic)", "saving_99_in_sample", 3),
    ("of oracle PF", "share_of_oracle_PF", 3),
    ("BAL", "share_of_oracle_BAL", 3),
    ("CF", "share_of_oracle_CF", 3),
)
_FORECASTS = (
    ("Brier", "brier", 4),
    ("Brier, new models", "brier_new", 4),
    ("ECE", "ece", 4),
    ("interval coverage (.9)", "interval_coverage", 3),
    ("token coverage (.9)", "token_coverage", 3),
    ("residuals within the other half's bound (.9)", "conformal_coverage", 3),
    ("ms a decision", "decision_ms", 3),
    ("p99", "decision_p99_ms", 3),
    ("s to train", "fit_s", 1),
)
# Beside the choices, what a terminal shows.
_HEADLINE = ("saving_99", "score_kept_99", "ece", "decision_ms")


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One protocol on one data set: its rounds and what became of them."""

    title: str
    protocol: str
    rounds: Sequence[Round]
    rows: Sequence[Row]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for evaluation.json."""
        return {
            "title": self.title,
            "protocol": self.protocol,
            **self.facts,
            "notes": list(self.notes),
            "rounds": [one.name for one in self.rounds],
            "queries_judged": [len(one.bench.test) for one in self.rounds],
            "refused": self.refused(),
            "rows": [row.as_json() for row in self.rows],
            "curves": {row.router: self.curve(row.router) for row in self.rows},
        }

    def refused(self) -> dict[str, str]:
        """Kinds that could not be fitted, and why."""
        return {kind: why for one in self.rounds for kind, why in one.refused.items()}

    def remarks(self) -> list[str]:
        """For people: the notes, and what could not be fitted."""
        return [*self.notes, *(f"{kind} was not fitted: {why}" for kind, why in self.refused().items())]

    def curve(self, router: str) -> dict[str, list[float]]:
        """Mean cost and score at each weight of the ladder, averaged over rounds."""
        ladder = self.rounds[0].bench.ladder
        each = [one.routers[router].taken for one in self.rounds]
        cost = np.mean([took.cost[ladder].mean(axis=1) for took in each], axis=0)
        score = np.mean([took.score[ladder].mean(axis=1) for took in each], axis=0)
        return {"cost_usd": _rounded(cost), "score": _rounded(score)}


def write_report(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Write both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {"sections": [one.as_json() for one in sections]}
    written = {JSON_FILE: json.dumps(body, indent=1) + "\n", MARKDOWN_FILE: markdown(sections)}
    return [write_whole(folder / name, text.encode()) for name, text in written.items()]


def write_whole(file: Path, content: bytes) -> Path:
    """A file that is never seen half-written."""
    handle, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        Path(made).chmod(0o644)
        Path(made).replace(file)
    finally:
        Path(made).unlink(missing_ok=True)
    return file


def markdown(sections: Sequence[Section]) -> str:
    """Every section with its three tables."""
    parts = ["# Evaluation", _LEGEND]
    for section in sections:
        counts = sorted({len(one.bench.test) for one in section.rounds})
        judged = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        rounds = f"{len(section.rounds)} round{'s' * (len(section.rounds) > 1)} of {judged} queries"
        parts.append(f"## {section.title}\n\n{section.protocol}; {rounds}.")
        parts += [_table(section.rows, columns) for columns in (_CHOICES, _MONEY, _FORECASTS)]
        parts += [f"- {line}" for line in section.remarks()]
    return "\n\n".join(part for part in parts if part) + "\n"


_LEGEND = (
    "Means over rounds. In the first table the paired difference from the best single model follows, in square brackets"
    " the same less the bias that resampling shows, then its 95 % bootstrap interval over questions; bold where that"
    " leaves out 0. *Leaky* rows know the answers or the task's label and only bound the others. *Saved at* is tuned on"
    " one half of each test side and judged on the other. What looks at the scores that it is judged by is optimistic:"
    " *common* (one weight of cost for all rounds, the cheapest whose mean score over them is enough), *in sample* (one"
    " for each test side), and PerfGain and CostSave by their definition."
    " docs/training.md defines every metric."
)


def main_table(section: Section) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the first table, for a terminal."""
    beside = [column for column in (*_MONEY, *_FORECASTS) if column[1] in _HEADLINE]
    shown = [column for column in (*_CHOICES, *beside) if _known(section.rows, column[1])]
    rows = [[row.router, *(_cell(row, name, places) for _, name, places in shown)] for row in section.rows]
    return ["router", *(title for title, _, _ in shown)], rows


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, str, int]]) -> str:
    columns = [column for column in columns if _known(rows, column[1])]
    kept = [row for row in rows if any(name in row.metrics for _, name, _ in columns)]
    if not columns or not kept:
        return ""
    head = f"| router | {' | '.join(title for title, _, _ in columns)} |\n|---{'|---:' * len(columns)}|"
    intervals = columns[0][1] == _CHOICES[0][1]
    lines = [
        f"| {row.router} | {' | '.join(_cell(row, name, places, intervals=intervals) for _, name, places in columns)} |"
        for row in kept
    ]
    return "\n".join([head, *lines])


def _known(rows: Sequence[Row], name: str) -> bool:
    return any(math.isfinite(row.metrics.get(name, math.nan)) for row in rows)


def _cell(row: Row, name: str, places: int, *, intervals: bool = False) -> str:
    value = row.metrics.get(name, math.nan)
    text = f"{value:.{places}f}" if math.isfinite(value) else "-"
    gap = row.against_best_single.get(name)
    if not intervals or gap is None or (gap.low == gap.high == 0):
        return text
    return f"{text} ({_gap(gap, places)})"


def _gap(gap: Difference, places: int) -> str:
    mean = f"{gap.mean:+.{places}f}"
    mean = f"**{mean}**" if gap.significant else mean
    return f"{mean} [{gap.corrected:+.{places}f}], {gap.low:+.{places}f} to {gap.high:+.{places}f}"


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
