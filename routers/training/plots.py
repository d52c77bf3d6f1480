"""Plots of an evaluation as PNG and SVG: quality over cost, calibration, new models. Needs matplotlib, headless.

The same figures give the same bytes of SVG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routers.training.references import BEST_LABELLED, BEST_SINGLE, LEAKY, ORACLE
from routers.training.report import Section, write_whole

# These are the same at every weight of cost.
_POINTS = {"cheapest", "dearest", "random"}
_SALT = "fingerpost"


def write_plots(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """A quality-cost curve and a calibration plot for each section, as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for section in sections:
        written += _save(folder / f"{_stem(section.title)}-quality-cost", _quality_cost(section))
        if any(judged.calibration for judged in section.rounds[0].routers.values()):
            written += _save(folder / f"{_stem(section.title)}-calibration", _calibration(section))
    return written


def write_new_models(folder: Path, title: str, by_shots: Mapping[int, Section]) -> list[Path]:
    """How the error of forecasts for new models and the AIQ of the enlarged pool follow from labels."""
    figure = _figure(columns=2)
    left, right = figure.subplots(1, 2)
    shots = sorted(by_shots)
    places = range(len(shots))
    names = [row.router for row in by_shots[shots[0]].rows if "brier_new" in row.metrics or row.router == BEST_SINGLE]
    for name in names:
        rows = [next(row for row in by_shots[shot].rows if row.router == name) for shot in shots]
        if all("brier_new" in row.metrics for row in rows):
            left.plot(places, [row.metrics["brier_new"] for row in rows], marker="o", label=name)
        right.plot(places, [row.metrics["aiq_log"] for row in rows], _style(name), marker="o", label=name)
    for axis, label in ((left, "Brier score of forecasts for new models"), (right, "AIQ over log cost, enlarged pool")):
        axis.set_xticks(list(places), [str(shot) for shot in shots])
        axis.set_xlabel("labelled queries of each new model")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    right.legend(fontsize=7)
    figure.suptitle(title)
    folder.mkdir(parents=True, exist_ok=True)
    return _save(folder / f"{_stem(title)}-curve", figure)


def _quality_cost(section: Section) -> Any:
    figure = _figure()
    axis = figure.subplots()
    bench = section.rounds[0].bench
    single = np.column_stack([np.nanmean(bench.cost, axis=0), np.nanmean(bench.score, axis=0)])
    axis.scatter(single[:, 0], single[:, 1], s=14, color="0.6", label="single models (first round)", zorder=1)
    for row in section.rows:
        if row.router == ORACLE or (row.leaky and "hindsight" in row.router):
            continue
        curve = section.curve(row.router)
        style = "k--" if row.router == BEST_SINGLE else _style(row.router)
        if row.router in _POINTS:
            axis.plot(curve["cost_usd"][:1], curve["score"][:1], "x", color="0.3")
            axis.annotate(row.router, (curve["cost_usd"][0], curve["score"][0]), fontsize=6, color="0.3")
            continue
        axis.plot(curve["cost_usd"], curve["score"], style, label=row.router, linewidth=1.4)
    axis.set_xscale("log")
    axis.set_xlabel("mean cost of a query, USD")
    axis.set_ylabel("mean score")
    axis.set_title(section.title)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=7)
    return figure


def _calibration(section: Section) -> Any:
    figure = _figure()
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for row in section.rows:
        found = section.rounds[0].routers[row.router].calibration
        if found is not None:
            told, true, _ = found
            axis.plot(told, true, marker="o", markersize=3, linewidth=1.2, label=row.router)
    axis.set_xlabel("forecast quality")
    axis.set_ylabel("mean score")
    axis.set_title(f"{section.title}: calibration, {section.rounds[0].name}")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return figure


def _style(router: str) -> str:
    if router in LEAKY:
        return ":"
    return "--" if router in {BEST_SINGLE, BEST_LABELLED} else "-"


def _stem(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _figure(columns: int = 1) -> Any:
    """A figure of its own, so that no global state and no display is needed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need the package matplotlib: pip install 'fingerpost[routers]'") from error
    return Figure(figsize=(6.4 * columns, 4.6), layout="constrained")


def _save(stem: Path, figure: Any) -> list[Path]:
    import matplotlib as mpl

    written = []
    with mpl.rc_context({"svg.hashsalt": _SALT}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=suffix[1:], dpi=130, metadata=metadata)
            written.append(write_whole(stem.with_name(stem.name + suffix), drawn.getvalue()))
    return written
