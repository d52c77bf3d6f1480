"""How a budget's money went over its present window, by the sums of the log; read only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import Column, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.rules import Budget, Scope, Window, WindowKind
from gateway.admission.windows import first_bucket, resets_at
from gateway.ledger.looking import looking
from gateway.ledger.tables import api_key, budget_spend, usage_caller, usage_model
from gateway.ledger.usage import Stretch, within
from gateway.ledger.usage_tables import DAY_S, FINE_S, HOUR_S

# Totals have no beginning: their last days are shown.
TOTAL_DAYS: Final = 30
_LINES: Final[dict[Scope, Column[Any]]] = {
    Scope.ORGANISATION: usage_caller.c.organisation_id,
    Scope.TEAM: usage_caller.c.team_id,
    Scope.KEY: usage_caller.c.key_id,
    Scope.MODEL: usage_model.c.model,
}


@dataclass(frozen=True, slots=True)
class BurnDown:
    """Nano-dollars and Unix seconds. `spent_nanousd` is what is booked on the budget by now; `points` what was spent by
    the end of each step from `start` on, as the log sums it up (None for a tag's budget, of which nothing is summed
    up): what was corrected later makes the two differ. `exhausted_at`: when the limit is reached if it
    goes on at the mean rate so far, None where the window ends before."""

    id: str
    limit_nanousd: int
    spent_nanousd: int
    start: int
    step_s: int
    resets_at: float | None
    points: tuple[int, ...] | None
    exhausted_at: float | None


async def burn_down(engine: AsyncEngine, budget: Budget, now: Callable[[], float] = time.time) -> BurnDown:
    """Raises `DatabaseUnavailable`. Where Redis keeps the gauges, what is booked is seconds old."""
    at = now()
    stretch, ends = _stretch(budget.window, at), resets_at(budget.window, at)
    async with looking(engine) as connection:
        booked = await _booked(connection, budget, at)
        spent = None if budget.scope is Scope.TAG else await _spent(connection, budget, stretch)
    before = max(0, booked - sum(spent)) if spent is not None and budget.window.kind is WindowKind.TOTAL else 0
    points = None if spent is None else tuple(accumulate(spent, initial=before))[1:]
    rate = (booked - before) / max(1.0, at - stretch.start)
    runs_out = at + max(0, budget.limit_nanousd - booked) / rate if rate > 0 else None
    if runs_out is not None and ends is not None and runs_out >= ends:
        runs_out = None
    return BurnDown(budget.id, budget.limit_nanousd, booked, stretch.start, stretch.step_s, ends, points, runs_out)


def _stretch(window: Window, at: float) -> Stretch:
    """The present window up to now, in steps that give a chart a few hundred points at most."""
    start = at - TOTAL_DAYS * DAY_S if window.kind is WindowKind.TOTAL else first_bucket(window, at)
    length = at - start
    step = FINE_S if length <= DAY_S else HOUR_S if length <= 14 * DAY_S else DAY_S
    begin = int(start // step) * step
    return Stretch(begin, step, int((at - begin) // step) + 1)


async def _booked(connection: AsyncConnection, budget: Budget, at: float) -> int:
    table = budget_spend.c
    counts = (table.budget_id == budget.id, table.bucket_start >= first_bucket(budget.window, at))
    return int(await connection.scalar(select(func.sum(table.spent_nanousd)).where(*counts)) or 0)


async def _spent(connection: AsyncConnection, budget: Budget, stretch: Stretch) -> list[int]:
    line = _LINES[budget.scope]
    table = line.table
    ids: Sequence[str] = [budget.scope_id]
    if budget.scope is Scope.KEY:  # a budget follows the line of keys that its key was rotated into
        key = api_key.c
        line_of = select(key.id).where(or_(key.root_id == budget.scope_id, key.id == budget.scope_id))
        ids = list((await connection.execute(line_of)).scalars()) or ids
    step = (table.c.start - table.c.start % stretch.step_s).label("step")
    asked = select(step, func.sum(table.c.cost_nanousd)).where(within(table, stretch), line.in_(ids)).group_by(step)
    found = {int(row[0]): int(row[1]) for row in (await connection.execute(asked)).all()}
    return [found.get(start, 0) for start in stretch.starts]
