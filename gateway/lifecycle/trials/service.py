"""All of one process' trials, for those who start them and for admin routes."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.lifecycle.trials.book import TrialBook
from gateway.lifecycle.trials.desk import TrialDesk
from gateway.lifecycle.trials.reports import TrialReports
from gateway.lifecycle.trials.shadows import Shadows
from gateway.lifecycle.trials.watching import TrialWatch


@dataclass(frozen=True, slots=True)
class Trials:
    """What runs, what is done to it, what is told of it."""

    book: TrialBook
    desk: TrialDesk
    watch: TrialWatch
    shadows: Shadows
    reports: TrialReports

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on as long as the process serves."""
        return [self.book.watch(), self.watch.run(), self.shadows.run()]

    def gauges(self) -> dict[str, float]:
        """Figures for operators."""
        counts = self.shadows.counts
        return {
            "running": len(self.book.trials),
            "refused": len(self.book.refused),
            "shadows_decided": counts["decided"],
            "shadows_left_out": counts["left_out"],
        }
