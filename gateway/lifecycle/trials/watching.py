"""Judges the canaries that run, again and again: one process at a time each, and what is proved is done at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import time
from typing import Final

from gateway.errors import Conflict, Stale
from gateway.ledger.acts import ITSELF
from gateway.ledger.faults import DatabaseUnavailable
from gateway.lifecycle.trials.book import TrialBook
from gateway.lifecycle.trials.desk import CHANGED, TrialDesk
from gateway.lifecycle.trials.evidence import Evidence
from gateway.lifecycle.trials.holding import EvidenceBook, Held
from gateway.lifecycle.trials.judge import Kind, Verdict, judged
from gateway.lifecycle.trials.reading import TrialReader
from gateway.lifecycle.trials.store import TrialStore
from gateway.lifecycle.trials.terms import Metric, Mode, State, Trial

log = logging.getLogger(__name__)

EVERY_S: Final = 3.0
# A point of the plot, once so many times more units are counted than at the last.
GROWTH: Final = 1.05
MOST_PAGES: Final = 20
_ENDS: Final = {Kind.HARM: State.ROLLED_BACK, Kind.MISSING: State.ROLLED_BACK, Kind.BROKEN: State.FAILED}


class TrialWatch:
    """One process' turn at it."""

    def __init__(
        self,
        book: TrialBook,
        store: TrialStore,
        reader: TrialReader,
        evidence: EvidenceBook,
        desk: TrialDesk,
        every_s: float = EVERY_S,
        now: Callable[[], float] = time,
    ) -> None:
        self._book = book
        self._store = store
        self._reader = reader
        self._evidence = evidence
        self._desk = desk
        self._every_s = every_s
        self._now = now

    async def run(self) -> None:
        """For ever. What hinders is said once; the trial goes on meanwhile."""
        complaint = ""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.step()
                complaint = ""
            except Exception as error:  # a fault of our own must not end it: it is logged, and tried again
                said = f"{type(error).__name__}: {error}"
                if said != complaint:
                    log.error("trials are not judged for now: %s", error, exc_info=_ours(error))
                complaint = said

    async def step(self) -> None:
        """Look at every trial once. One that can't be judged does not keep the others from it."""
        failed: Exception | None = None
        for trial in tuple(self._book.trials):
            try:
                if not await self._ended(trial) and trial.mode is Mode.CANARY:
                    await self._judge(trial)
            except (Conflict, Stale) as error:  # somebody else has ended it meanwhile
                log.warning("trial %s: %s", trial.id, error)
            except Exception as error:  # noqa: BLE001 - raised below, once all had their turn
                failed = error
        if failed is not None:
            raise failed

    async def _ended(self, trial: Trial) -> bool:
        """Whether it is over for a reason that is no evidence."""
        if await self._desk.changed(trial):
            if await self._desk.in_force(trial):
                await self._desk.end(trial.id, State.PROMOTED, "The draft was put in force.", actor=ITSELF)
            else:
                await self._desk.end(trial.id, State.STOPPED, CHANGED, actor=ITSELF)
            return True
        if self._now() < trial.started_at + trial.limits.longest_s:
            return False
        reason = (
            f"Its longest duration of {trial.limits.longest_s:g} s is over without proof of harm or of its absence."
        )
        if trial.mode is Mode.SHADOW:
            reason = f"Its duration of {trial.limits.longest_s:g} s is over."
        await self._desk.end(trial.id, State.STOPPED, reason, actor=ITSELF)
        return True

    async def _judge(self, trial: Trial) -> None:
        held = await self._evidence.hold(trial.id)
        if held is None:
            return
        evidence = _evidence(trial, held)
        await self._read(trial, evidence)
        verdict = await asyncio.to_thread(judged, evidence)
        before, count = held.verdict or {}, _counted(evidence)
        fresh, plotted = verdict.kind != before.get("kind"), before.get("plotted", 0)
        due = fresh or (count > plotted and count >= GROWTH * plotted)
        told = {"kind": verdict.kind, "words": verdict.words, **verdict.figures, "plotted": count if due else plotted}
        if await self._evidence.save(held, evidence.pack(), told) is None:
            return
        if due:
            await self._evidence.look(trial.id, {"kind": verdict.kind, **verdict.figures})
        await self._act(trial, verdict, fresh)

    async def _read(self, trial: Trial, evidence: Evidence) -> None:
        """Take in all units that are ripe."""
        limits = trial.limits
        ripe = self._now() - limits.window_s - limits.settle_s
        for _ in range(MOST_PAGES):
            if ripe <= evidence.upto:
                break
            page = await self._reader.units(trial.id, evidence.upto, ripe, limits.window_s)
            await asyncio.to_thread(evidence.take, page.units)
            evidence.upto = page.upto
            if not page.more:
                break
        if Metric.FEEDBACK in limits.tolerance:
            await self._read_feedback(trial, evidence, ripe - limits.feedback_wait_s)

    async def _read_feedback(self, trial: Trial, evidence: Evidence, ripe: float) -> None:
        limits = trial.limits
        for _ in range(MOST_PAGES):
            if ripe <= evidence.feedback_upto:
                break
            page = await self._reader.units(trial.id, evidence.feedback_upto, ripe, limits.window_s)
            scores = await self._reader.scores(page.units, limits.feedback_wait_s)
            said = [(one, scores[one.unit]) for one in page.units if one.unit in scores]
            await asyncio.to_thread(evidence.take_feedback, said)
            evidence.feedback_upto = page.upto
            if not page.more:
                break

    async def _act(self, trial: Trial, verdict: Verdict, fresh: bool) -> None:
        if verdict.kind in _ENDS:
            log.warning("trial %s of policy %s: %s", trial.id, trial.policy, verdict.words)
            state = _ENDS[verdict.kind]
            await self._desk.end(trial.id, state, verdict.words, actor=ITSELF, figures=verdict.figures)
        elif verdict.kind is Kind.PROVED and trial.limits.auto_promote:
            log.warning("trial %s of policy %s: %s", trial.id, trial.policy, verdict.words)
            await self._desk.promote(trial.id, verdict.words, actor=ITSELF, figures=verdict.figures)
        elif verdict.kind is Kind.PROVED and fresh:
            await self._store.note(trial, "trial.verdict", ITSELF, {"words": verdict.words, "figures": verdict.figures})


def _evidence(trial: Trial, held: Held) -> Evidence:
    if held.evidence is None:
        return Evidence.begin(trial.limits, trial.started_at)
    return Evidence.unpack(trial.limits, held.evidence)


def _counted(evidence: Evidence) -> int:
    said = sum(sums.counted.get(Metric.FEEDBACK, 0) for sums in evidence.sums.values())
    return sum(sums.units for sums in evidence.sums.values()) + said


def _ours(error: Exception) -> bool:
    return not isinstance(error, DatabaseUnavailable)
