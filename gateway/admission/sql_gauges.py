"""Budgets in SQL, shared by all processes that use the database; rate limits in each process's own memory.

For several processes without Redis, and for one that must not forget its budgets when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.gauges import (
    LEASE_S,
    Demand,
    Expired,
    GaugesUnavailable,
    Granted,
    Level,
    Refused,
    Settlement,
)
from gateway.admission.memory_limits import Hold, MemoryLimits
from gateway.admission.recent import Recent
from gateway.admission.rules import Budget
from gateway.admission.sql_book import SqlBook
from gateway.admission.sql_steps import Admit, End, Extend
from gateway.admission.sql_teller import Teller, not_asked
from gateway.admission.steady_clock import SteadyClock
from gateway.ledger.engine import writing
from gateway.ledger.faults import describe

Found = TypeVar("Found")
TIMEOUT_S: Final = 1.0
# Leases of this process that have expired, whose calls may still tell what they cost.
MOST_EXPIRED: Final = 4_096


@dataclass(slots=True, eq=False)
class _Held:
    """A lease of this process; `expires_at` is by the monotonic clock."""

    demand: Demand
    hold: Hold
    expires_at: float


class SqlGauges:
    """`Gauges` over a database that has its tables.

    Budgets are exact over all processes: one transaction a batch of calls, queued at the budgets' rows. Rate limits
    and calls at once are kept by each process for itself, because a database's round trip for each would be too dear:
    `share` is the part of every limit that one process gives out (1 / the number of processes; never below 1). A
    demand without budgets never touches the database.

    Leases end by the database's clock (on SQLite: this machine's). Where that jumps, or the database was away, nothing
    is reaped for one lease's life, so that those who live can renew theirs first. A step answers within twice
    `timeout_s`; while the database is away it fails at once. The caller disposes of the engine, after `drain`.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        share: float = 1.0,
        timeout_s: float = TIMEOUT_S,
        lease_s: float = LEASE_S,
        now: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._clock = SteadyClock(now or time.time, monotonic)
        self._book = SqlBook(engine.dialect, lease_s, own_clock=now is not None)
        self._teller = Teller(engine, self._book, self._clock, timeout_s, self._postpone_reaping)
        self._limits = MemoryLimits(share, monotonic)
        self._held: dict[str, _Held] = {}
        self._ended = Recent()
        self._expired: dict[str, Sequence[Budget]] = {}
        self._reap_from = float("-inf")

    async def admit(self, lease_id: str, demand: Demand, replacing: str | None = None) -> Granted | Refused:
        """See `Gauges.admit`; limits are looked at before budgets."""
        rules = demand.rules
        old = self._held.get(replacing) if replacing is not None else None
        old_hold = old.hold if old is not None else None
        granted = self._limits.take(rules.limits, demand.tokens, old_hold)
        if isinstance(granted, Refused):
            return granted
        hold = Hold(rules.limits, demand.tokens)
        if rules.budgets:
            replaced = (replacing, old.demand.rules.budgets) if old is not None else (None, ())
            try:
                answer = await self._teller.ask(Admit(lease_id, rules.budgets, demand.cost_nanousd, *replaced))
            except BaseException:
                self._limits.undo(hold, old_hold)
                raise
            if isinstance(answer, Refused):
                self._limits.undo(hold, old_hold)
                return answer
            if isinstance(answer, tuple) and answer:
                granted = Granted(granted.requests, granted.tokens, answer)
        if replacing is not None:
            self._give_up(replacing, old, hold)
        self._held[lease_id] = _Held(demand, hold, self._monotonic() + self._lease_s)
        return granted

    async def extend(self, lease_id: str, demand: Demand, more_nanousd: int) -> bool:
        """See `Gauges.extend`."""
        held = self._held.get(lease_id)
        if held is None:
            return False
        budgets = held.demand.rules.budgets
        return not budgets or await self._teller.ask(Extend(lease_id, budgets, more_nanousd)) is True

    def settle(self, settlement: Settlement) -> None:
        """See `Gauges.settle`. The cost of a lease that was never granted here is booked, too, once."""
        lease_id, cost = settlement.lease_id, settlement.cost_nanousd
        held = self._held.pop(lease_id, None)
        budgets = (held or settlement).demand.rules.budgets
        if held is not None:
            self._limits.settle(held.hold, settlement.tokens)
        elif lease_id in self._ended:
            return
        self._ended.add(lease_id)
        stray = held is None and self._expired.pop(lease_id, None) is None
        if budgets:
            self._teller.end(End(lease_id, budgets, cost, self._clock.now(), stray))

    async def renew(self, lease_ids: Sequence[str]) -> None:
        """See `Gauges.renew`."""
        until = self._monotonic() + self._lease_s
        in_sql = []
        for lease_id in lease_ids:
            held = self._held.get(lease_id)
            if held is not None:
                held.expires_at = until
            if held is None or held.demand.rules.budgets:
                in_sql.append(lease_id)
        if in_sql:
            now = self._clock.now()
            await self._asking(lambda connection: self._book.renew(connection, in_sql, now))

    async def reap(self) -> Sequence[Expired]:
        """See `Gauges.reap`."""
        self._reap_limits()
        expired: list[Expired] = []
        while late := await self._asking(self._late):
            now = self._clock.now()
            expired += await self._asking(partial(self._book.reap, late=late, now_s=now))
        return expired

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        """See `Gauges.levels`."""
        now = self._clock.now()
        return await self._asking(lambda connection: self._book.look(connection, budgets, now), self._engine)

    async def start(self) -> None:
        """Begin to carry out steps; does not wait for the database."""
        await self._teller.start()

    async def drain(self, timeout_s: float) -> None:
        """See `Gauges.drain`."""
        await self._teller.drain(timeout_s)

    def _give_up(self, lease_id: str, old: _Held | None, hold: Hold) -> None:
        """A lease whose place another has taken; it may have expired, and then its charge is taken back."""
        self._held.pop(lease_id, None)
        self._ended.add(lease_id)
        if old is not None:
            self._limits.drop(old.hold, hold)
        budgets = old.demand.rules.budgets if old is not None else self._expired.pop(lease_id, ())
        if budgets:
            self._teller.end(End(lease_id, budgets, 0, self._clock.now(), stray=False))

    def _reap_limits(self) -> None:
        """Calls of this process that were lost: their places are free again."""
        now = self._monotonic()
        for lease_id in [one for one, held in self._held.items() if held.expires_at < now]:
            held = self._held.pop(lease_id)
            self._limits.settle(held.hold, held.hold.tokens)
            if len(self._expired) >= MOST_EXPIRED:
                self._ended.add(oldest := next(iter(self._expired)))
                del self._expired[oldest]
            self._expired[lease_id] = held.demand.rules.budgets

    def _postpone_reaping(self) -> None:
        self._reap_from = self._monotonic() + self._lease_s

    def _late(self, connection: Connection) -> Mapping[str, Iterable[str]]:
        """Leases to be reaped, each with its budgets; none while their owners must have time to renew them."""
        if self._clock.set(self._book.clock(connection)):
            self._postpone_reaping()
        if self._monotonic() < self._reap_from:
            return {}
        return self._book.late(connection, self._clock.now())

    async def _asking(self, work: Callable[[Connection], Found], engine: AsyncEngine | None = None) -> Found:
        """One transaction beside the teller's; whatever goes wrong becomes `GaugesUnavailable`."""
        if not self._teller.up:
            raise not_asked("the database of budgets is away")
        try:
            async with asyncio.timeout(self._timeout_s), (engine or writing(self._engine)).begin() as connection:
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as error:
            raise GaugesUnavailable(f"the database did not answer: {describe(error)}") from error
