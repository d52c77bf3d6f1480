"""What the ledger knows of a trial's requests: units in the order in which they came, and how things were before it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, exists, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.faults import asking
from gateway.ledger.tables import feedback, request_log
from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.evidence import Asked, UnitSeen

TIMEOUT_S: Final = 10.0
BATCH_UNITS: Final = 500
# What is looked at to learn what is usual: so many requests of the policy at most, so many seconds back.
USUAL_REQUESTS: Final = 2000
USUAL_S: Final = 7 * 86_400.0
_HIT: Final = "hit-"


@dataclass(frozen=True, slots=True)
class Page:
    """Units that first asked after the last page and until `upto` (Unix seconds); whether there are `more` by now."""

    units: tuple[UnitSeen, ...]
    upto: float
    more: bool


@dataclass(frozen=True, slots=True)
class Usual:
    """A policy's latest answered requests: times in all (ms) and costs, ascending, and how often they were judged."""

    total_ms: tuple[float, ...]
    cost_nanousd: tuple[int, ...]
    judged: int


class TrialReader:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def units(self, trial_id: str, after: float, upto: float, window_s: float) -> Page:
        """The next units, with their requests of `window_s` since the first; a unit comes once.

        A request that is in the ledger later than it was looked for is never counted.
        """
        first = await self._ask(_firsts(trial_id, after, upto))
        more = len(first) > BATCH_UNITS
        if more:  # several may have come at the same moment: they stay together
            beyond = first[BATCH_UNITS].first_at
            kept = [row for row in first if row.first_at < beyond] or first[:BATCH_UNITS]
            first, upto = kept, float(kept[-1].first_at)
        if not first:
            return Page((), upto, more=False)
        wanted = _requests(trial_id, [row.trial_unit for row in first], after, upto + window_s)
        found: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in await self._ask(wanted):
            found[row.trial_unit].append(row)
        units = (_unit(found[row.trial_unit], float(row.first_at) + window_s) for row in first)
        return Page(tuple(units), upto, more)

    async def scores(self, units: Sequence[UnitSeen], wait_s: float) -> Mapping[str, float]:
        """The mean score of each unit whose requests were judged within `wait_s` of being asked."""
        ids = {row.id: unit.unit for unit in units for row in unit.requests}
        if not ids:
            return {}
        said = feedback.c
        wanted = (
            select(said.request_id, func.avg(said.score).label("score"))
            .select_from(feedback.join(request_log, request_log.c.id == said.request_id))
            .where(said.request_id.in_(list(ids)), said.at <= request_log.c.at + wait_s)
            .group_by(said.request_id)
        )
        scores: dict[str, list[float]] = defaultdict(list)
        for row in await self._ask(wanted):
            scores[ids[row.request_id]].append(min(max(float(row.score), 0.0), 1.0))
        return {unit: sum(found) / len(found) for unit, found in scores.items()}

    async def usual(self, policy: str, now: float) -> Usual:
        """How a policy's requests went until now."""
        log = request_log.c
        latest = (
            select(log.id, log.total_ms, log.cost_nanousd)
            .where(log.policy == policy, log.at > now - USUAL_S, log.status == 200, log.route != "route")
            .order_by(log.at.desc())
            .limit(USUAL_REQUESTS)
        )
        rows = await self._ask(latest)
        part = latest.subquery()
        judged = select(func.count()).select_from(feedback.join(part, part.c.id == feedback.c.request_id))
        count = (await self._ask(judged))[0][0]
        times = sorted(float(row.total_ms) for row in rows if row.total_ms is not None)
        costs = sorted(int(row.cost_nanousd) for row in rows if row.cost_nanousd is not None)
        return Usual(tuple(times), tuple(costs), int(count))

    async def _ask(self, wanted: Any) -> Sequence[Row[Any]]:
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                rows: Sequence[Row[Any]] = (await connection.execute(wanted)).all()
                return rows


def _firsts(trial_id: str, after: float, upto: float) -> Any:
    log, earlier = request_log.c, request_log.alias()
    known = exists().where(
        earlier.c.trial_id == trial_id, earlier.c.trial_unit == log.trial_unit, earlier.c.at <= after
    )
    first = func.min(log.at).label("first_at")
    return (
        select(log.trial_unit, first)
        .where(_counted(trial_id), log.at > after, log.at <= upto, ~known)
        .group_by(log.trial_unit)
        .order_by(first, log.trial_unit)
        .limit(BATCH_UNITS + 1)
    )


def _requests(trial_id: str, units: list[str], after: float, upto: float) -> Any:
    log = request_log.c
    return (
        select(
            *(log.id, log.at, log.trial_unit, log.trial_arm, log.trial_share),
            *(log.status, log.cost_nanousd, log.total_ms, log.cache_status),
        )
        .where(_counted(trial_id), log.trial_unit.in_(units), log.at > after, log.at <= upto)
        .order_by(log.at, log.id)
    )


def _counted(trial_id: str) -> ColumnElement[bool]:
    log = request_log.c
    return (log.trial_id == trial_id) & log.trial_arm.in_((Arm.CONTROL, Arm.CANARY)) & log.trial_unit.is_not(None)


def _unit(rows: Sequence[Row[Any]], until: float) -> UnitSeen:
    """Requests after a change of the share that moved the unit do not count: the first says where it was."""
    first = rows[0]
    asked = tuple(
        Asked(row.id, row.status, row.cost_nanousd, row.total_ms, row.cache_status.startswith(_HIT))
        for row in rows
        if row.at <= until and row.trial_arm == first.trial_arm
    )
    return UnitSeen(first.trial_unit, float(first.at), first.trial_arm == Arm.CANARY, float(first.trial_share), asked)
