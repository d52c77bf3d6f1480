"""What trying models for learning's sake may still cost today: taken from the day's allowance before it is spent.

So the allowance holds whatever dies; what a process has taken and not spent is lost with it. While the database is
away nothing is taken, and so nothing is tried once that is spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import time
from typing import Final

from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.record import Record
from gateway.ledger.tables import exploration_spend
from policies.schema import Policy
from routers.decision import Decision

TIMEOUT_S: Final = 2.0
# A day's allowance is taken in so many parts; a single try can cost two of them at most.
PARTS: Final = 20
_DAY_S: Final = 86_400
_NANO: Final = 1_000_000_000


class Purse:
    """One process' share of each policy's allowance (`learning.max_extra_usd_per_day`), days in UTC."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time) -> None:
        self._engine = engine
        self._now = now
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        self._left: dict[str, tuple[int, int]] = {}

    def left(self, policy: str) -> int:
        """Nano-dollars in hand for a policy."""
        day, nanousd = self._left.get(policy, (0, 0))
        return nanousd if day == self._today() else 0

    def spend(self, policy: str, nanousd: int) -> None:
        """A try was decided on; it was asked beforehand whether there is enough."""
        self._left[policy] = (self._today(), self.left(policy) - nanousd)

    @contextmanager
    def trying(self, decision: Decision, record: Record) -> Iterator[None]:
        """While a decision is carried out: its try is paid for at once, and given back where no endpoint of its model
        did anything that costs; what another day gave is gone."""
        policy, nanousd, day = decision.policy_name, decision.extra_nanousd, self._today()
        if nanousd:
            self.spend(policy, nanousd)
        try:
            yield
        finally:
            if nanousd and day == self._today() and not _tried(decision, record):
                self.spend(policy, -nanousd)

    async def refill(self, policies: Iterable[Policy]) -> None:
        """Take another part for each policy that tries and has less than one in hand. Raises `DatabaseUnavailable`."""
        for policy in policies:
            part = round(policy.learning.max_extra_usd_per_day * _NANO) // PARTS
            if policy.exploration > 0 and part > 0 and self.left(policy.name) < part:
                today = self._today()
                if await self._take(policy.name, today, part):
                    self._left[policy.name] = (today, self.left(policy.name) + part)

    async def _take(self, policy: str, day: int, part: int) -> bool:
        """Whether the day's allowance still held that much."""
        table = exploration_spend.c
        begun = self._insert(exploration_spend).values(policy=policy, day=day, taken_nanousd=0)
        taken = (
            update(exploration_spend)
            .where(table.policy == policy, table.day == day, table.taken_nanousd + part <= part * PARTS)
            .values(taken_nanousd=table.taken_nanousd + part)
        )
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                await connection.execute(begun.on_conflict_do_nothing())
                return bool((await connection.execute(taken)).rowcount)

    def _today(self) -> int:
        return int(self._now()) // _DAY_S


def _tried(decision: Decision, record: Record) -> bool:
    """Whether any endpoint of the chosen model has answered, or may want money all the same."""
    model = decision.chosen.candidate.card.id
    paid = {one["endpoint"] for one in record.attempts if one["outcome"] == "ok" or one.get("may_cost")}
    return any(one.candidate.card.id == model and one.candidate.endpoint.id in paid for one in decision.ranking)
