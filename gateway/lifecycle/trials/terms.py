"""What a trial is: a draft beside what is in force, for whom, for how long, and what it may not make worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from gateway.lifecycle.trials.assignment import UnitKind

LEAST_SHARE: Final = 0.005
MOST_SHARE: Final = 0.95
LONGEST_S: Final = 90 * 86_400.0


class Mode(StrEnum):
    """Shadow: the draft decides and nobody is served by it. Canary: it serves a share."""

    SHADOW = "shadow"
    CANARY = "canary"


class State(StrEnum):
    """`failed`: it could not be carried out, which says nothing of the draft."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"
    FAILED = "failed"


class Metric(StrEnum):
    """What is compared, each between 0 and 1 and the larger the worse. See `values` in `evidence`."""

    ERRORS = "errors"
    COST = "cost"
    LATENCY = "latency"
    FEEDBACK = "feedback"


# How much worse a draft may be: cost as a share of the control's, the others as differences of shares and scores.
TOLERANCES: Final = {Metric.ERRORS: 0.01, Metric.COST: 0.1, Metric.LATENCY: 0.02, Metric.FEEDBACK: 0.05}
RELATIVE: Final = frozenset({Metric.COST})


@dataclass(frozen=True, slots=True)
class Limits:
    """`tolerance` has the metrics that are judged, `left_out` why others are not.

    `alpha` bounds the chance that a draft which is nowhere worse than tolerated is ever rolled back, and that one which
    is worse is promoted. A request is slow above `slow_ms`; of one request's cost no more than `cost_cap_nanousd`
    counts. A unit's value is the mean over the requests of its first `window_s`; `settle_s` later all of them must be
    in the ledger. Feedback counts that comes within `feedback_wait_s`. Units that first ask within `warm_up_s` of the
    start are left out. `min_units` are needed in the canary arm for a promotion without an advantage.
    """

    tolerance: Mapping[Metric, float]
    left_out: Mapping[Metric, str] = field(default_factory=dict)
    alpha: float = 0.05
    unit: UnitKind = UnitKind.CALLER
    slow_ms: float | None = None
    cost_cap_nanousd: int | None = None
    window_s: float = 60.0
    settle_s: float = 60.0
    feedback_wait_s: float = 600.0
    warm_up_s: float = 0.0
    min_units: int = 500
    longest_s: float = 7 * 86_400.0
    auto_promote: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Limits:
        """The same again."""
        tolerance = {Metric(name): value for name, value in stored["tolerance"].items()}
        left_out = {Metric(name): value for name, value in stored["left_out"].items()}
        made = cls(**{**stored, "tolerance": tolerance, "left_out": left_out})
        return replace(made, unit=UnitKind(made.unit))


@dataclass(frozen=True, slots=True)
class Trial:
    """`version_id` beside what is in force of `policy` for `scope`, whose hash was `control_sha256` at the start.

    `revision` goes up with every change. Times are Unix seconds; `reason` says why it ended.
    """

    id: str
    policy: str
    version_id: int
    scope: str
    mode: Mode
    share: float
    state: State
    started_at: float
    actor: str
    limits: Limits
    control_sha256: str
    revision: int = 1
    ended_at: float | None = None
    reason: str | None = None
    note: str = ""


def field_fault(mode: Mode, share: float, limits: Limits) -> tuple[str, str] | None:
    """The first field that can't be so, and how it can; None where all is well."""
    most = 1.0 if mode is Mode.SHADOW else MOST_SHARE
    checks = [
        (LEAST_SHARE <= share <= most, "share", f"must be between {LEAST_SHARE:g} and {most:g}"),
        (0.0001 <= limits.alpha <= 0.5, "alpha", "must be between 0.0001 and 0.5"),
        (0 <= limits.window_s <= 3600, "window_s", "must be between 0 and 3600 seconds"),
        (0 <= limits.settle_s <= 3600, "settle_s", "must be between 0 and 3600 seconds"),
        (0 <= limits.feedback_wait_s <= 7 * 86_400, "feedback_wait_s", "must be between 0 and 604800 seconds"),
        (0 <= limits.warm_up_s <= 7 * 86_400, "warm_up_s", "must be between 0 and 604800 seconds"),
        (1 <= limits.min_units <= 10**9, "min_units", "must be at least 1"),
        (1 <= limits.longest_s <= LONGEST_S, "longest_s", f"must be between 1 and {LONGEST_S:g} seconds"),
        (limits.slow_ms is None or limits.slow_ms > 0, "slow_ms", "must be above 0"),
        (limits.cost_cap_nanousd is None or limits.cost_cap_nanousd > 0, "cost_cap_nanousd", "must be above 0"),
        *(
            (0 <= one <= 0.5, f"tolerance.{name}", "must be between 0 and 0.5")
            for name, one in limits.tolerance.items()
        ),
    ]
    return next(((name, said) for fine, name, said in checks if not fine), None)
