"""Trials as admins see them: how they stand, how that came, and what a shadow would have done. Reads only."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Integer, cast, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.faults import asking
from gateway.ledger.tables import request_log
from gateway.ledger.trial_tables import shadow_decision
from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.evidence import Evidence
from gateway.lifecycle.trials.holding import EvidenceBook
from gateway.lifecycle.trials.judge import Verdict, judged
from gateway.lifecycle.trials.store import TrialStore
from gateway.lifecycle.trials.terms import Mode, State, Trial

TIMEOUT_S: Final = 10.0
MOST_MODELS: Final = 20


class TrialReports:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, engine: AsyncEngine, store: TrialStore, evidence: EvidenceBook) -> None:
        self._engine = engine
        self._store = store
        self._evidence = evidence

    async def newest(self, policy: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first, each with the last words said of it."""
        trials = await self._store.newest(policy, limit)
        verdicts = await self._evidence.verdicts([one.id for one in trials])
        return [{**shown(one), "verdict": _words(one, verdicts.get(one.id))} for one in trials]

    async def one(self, trial: Trial) -> dict[str, Any]:
        """With both arms and all metrics as they stand, and the points of the plot."""
        if trial.mode is Mode.SHADOW:
            return {**shown(trial), **await self._shadow(trial)}
        found = (await self._evidence.verdicts([trial.id])).get(trial.id) or _begun(trial)
        told = {name: found[name] for name in ("kind", "arms", "metrics", "upto")}
        looks = await self._evidence.looks(trial.id)
        logged = await self._logged(trial)
        return {
            **shown(trial),
            "verdict": _words(trial, found),
            "judged_at": found["at"],
            **told,
            "logged": logged,
            "looks": looks,
        }

    async def _logged(self, trial: Trial) -> dict[str, int]:
        """Requests of each arm in the ledger, counted or not."""
        log = request_log.c
        wanted = select(log.trial_arm, func.count()).where(log.trial_id == trial.id).group_by(log.trial_arm)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                found = {arm: int(count) for arm, count in (await connection.execute(wanted)).all()}
        return {str(arm): found.get(arm, 0) for arm in (Arm.CONTROL, Arm.CANARY)}

    async def _shadow(self, trial: Trial) -> dict[str, Any]:
        decided, here = shadow_decision.c, shadow_decision.c.trial_id == trial.id
        known = decided.model.is_not(None)
        sums = select(
            func.count().label("requests"),
            func.sum(cast(decided.agrees, Integer)).label("agrees"),
            func.count(decided.fault).label("faults"),
            func.avg(decided.quality).label("quality"),
            func.avg(decided.control_quality).filter(known).label("control_quality"),
            func.avg(decided.cost_nanousd).label("cost_nanousd"),
            func.avg(decided.control_cost_nanousd).filter(known).label("control_cost_nanousd"),
        ).where(here)
        count = func.count().label("requests")
        pairs = select(decided.control_model, decided.model, count).where(here)
        pairs = pairs.group_by(decided.control_model, decided.model).order_by(count.desc()).limit(MOST_MODELS)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                row = (await connection.execute(sums)).one()
                moves = [dict(one) for one in (await connection.execute(pairs)).mappings()]
        figures = {name: None if value is None else float(value) for name, value in row._mapping.items()}
        figures |= {name: int(row._mapping[name] or 0) for name in ("requests", "agrees", "faults")}
        words = _ended(trial) if trial.state is not State.RUNNING else _compared(figures)
        return {"verdict": words, "shadow": figures, "models": moves}


def shown(trial: Trial) -> dict[str, Any]:
    """A trial's own fields."""
    return asdict(trial)


def _words(trial: Trial, verdict: dict[str, Any] | None) -> str:
    if trial.state is not State.RUNNING:
        return _ended(trial)
    if trial.mode is Mode.SHADOW:
        return "The draft decides and serves nobody."
    return str((verdict or _begun(trial))["words"])


def _ended(trial: Trial) -> str:
    return trial.reason or ""


def _begun(trial: Trial) -> dict[str, Any]:
    found: Verdict = judged(Evidence.begin(trial.limits, trial.started_at))
    return {"kind": found.kind, "words": found.words, **found.figures, "at": None}


def _compared(figures: dict[str, Any]) -> str:
    count = figures["requests"]
    if not count:
        return "The draft has decided nothing yet."
    agrees, faults = figures["agrees"] / count, figures["faults"] / count
    failed = f" For {faults:.1%} it found nobody to answer." if faults else ""
    cost, control = figures["cost_nanousd"], figures["control_cost_nanousd"]
    dearer = f" Its choices are forecast to cost {cost / control - 1:+.1%}" if cost is not None and control else ""
    better = ""
    if dearer and figures["quality"] is not None and figures["control_quality"] is not None:
        better = f", and to be {figures['quality'] - figures['control_quality']:+.3f} in quality."
    return f"The draft chooses the same model for {agrees:.1%} of {count} requests.{failed}{dearer}{better}"
