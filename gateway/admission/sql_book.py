"""Budgets and their leases in SQL: what one transaction does for a batch of steps. The caller begins and commits it.

Transactions queue at the budgets' rows, in the order of their ids. Written for `run_sync` and for a thread alike.
Knows no rate limit, no queue and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect

from gateway.admission.gauges import CORRECTED_S, Expired, Level, Refused
from gateway.admission.memory_budgets import MemoryBudgets
from gateway.admission.rules import Budget, WindowKind
from gateway.admission.sql_statements import ENDED, EXPIRED, Statements, mapping
from gateway.admission.sql_steps import Admit, Answer, Batch, End, Extend, Step
from gateway.admission.windows import bucket_of, first_bucket, resets_at

# A lease that has ended is remembered for so many lives of a lease.
_REMEMBERED: Final = 10
# None ends further ahead than one life; twice that was begun before the clock was set back.
_FAR: Final = 2
_IDLE_MS: Final = "5000"
_MOST_PRUNED: Final = 10_000


@dataclass(slots=True)
class _Changes:
    """What a transaction has to write."""

    reserved: dict[str, int] = field(default_factory=dict)
    spent: dict[tuple[str, int], int] = field(default_factory=dict)
    begun: list[tuple[str, int, Mapping[str, int]]] = field(default_factory=list)
    extended: list[tuple[str, int, Mapping[str, int]]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def reserve(self, budget_ids: Iterable[str], more: int) -> None:
        """More (or less) is reserved of each."""
        for budget_id in budget_ids:
            self.reserved[budget_id] = self.reserved.get(budget_id, 0) + more

    def spend(self, budget_id: str, bucket: int, cost: int) -> None:
        """More is spent."""
        self.spent[budget_id, bucket] = self.spent.get((budget_id, bucket), 0) + cost


class SqlBook:
    """One per process; `lease_s` is how long a lease lives that nobody renews, `own_clock` whether this machine's
    clock counts whatever the database's says."""

    def __init__(self, dialect: Dialect, lease_s: float, own_clock: bool = False) -> None:
        self._sql = Statements(dialect)
        self._lease_s = lease_s
        self._own_clock = own_clock
        self._pruned: dict[str, int] = {}

    def clock(self, connection: Connection) -> float | None:
        """The database's clock (Unix seconds), where it may be another machine's."""
        if self._own_clock or self._sql.clock is None:
            return None
        return float((self._sql.clock.rows(connection))[0][0])

    def add_rows(self, connection: Connection, budget_ids: Sequence[str]) -> None:
        """Give budgets a row to queue at; where there are locks, in a transaction of its own, which then holds none
        while it waits."""
        self._sql.add_rows.each(connection, [{"budget": one} for one in budget_ids])

    def carry_out(self, connection: Connection, batch: Batch, now_s: float) -> list[Answer] | None:
        """The answers to a batch's steps; None, and nothing is changed, where `add_rows` must come first.

        An empty batch only looks whether all tables are there.
        """
        if not len(batch):
            self.look(connection, (), now_s)
        if not self._lock(connection, batch.budget_ids()):
            return None
        if batch.ends:
            self._end(connection, batch.ends, now_s)
        return self._take(connection, batch.steps, now_s) if batch.steps else []

    def look(self, connection: Connection, budgets: Sequence[Budget], now_s: float) -> list[Level]:
        """How budgets stand, in one snapshot."""
        rows = self._rows(connection, budgets, now_s)
        return [
            Level(budget, spent, reserved, resets_at(budget.window, now_s))
            for budget, (spent, reserved, _) in zip(budgets, rows, strict=True)
        ]

    def renew(self, connection: Connection, lease_ids: Sequence[str], now_s: float) -> None:
        """These leases live on from now."""
        self._sql.renew.each(connection, [{"ids": self._sql.many(lease_ids), "until": now_s + self._lease_s}])

    def late(self, connection: Connection, now_s: float) -> dict[str, Iterable[str]]:
        """Leases that nobody has renewed (not all, where there are many), each with its budgets.

        One that ends later than any can was begun before the clock was set back: it is late after one more life.
        """
        far = {"far": now_s + _FAR * self._lease_s, "until": now_s + self._lease_s}
        self._sql.bring_near.each(connection, [far])
        return {row[0]: mapping(row[1]) for row in self._sql.expired.rows(connection, now=now_s)}

    def reap(self, connection: Connection, late: Mapping[str, Iterable[str]], now_s: float) -> Sequence[Expired]:
        """End those that are late still, each charged whole in the buckets of its last reservation."""
        self._lock(connection, sorted({budget_id for ids in late.values() for budget_id in ids}))
        ids = self._sql.many(list(late))
        self._sql.forget_leases.rows(connection, ids=ids, now=now_s)
        changes = _Changes()
        found = []
        for lease_id, kept, buckets in self._sql.reap.rows(connection, ids=ids, now=now_s, until=now_s + CORRECTED_S):
            charged = EXPIRED - kept
            found.append(Expired(lease_id, charged))
            changes.reserve(mapping(buckets), -charged)
            for budget_id, bucket in mapping(buckets).items():
                changes.spend(budget_id, bucket, charged)
        self._write(connection, changes, now_s)
        return found

    def _lock(self, connection: Connection, budget_ids: Sequence[str]) -> bool:
        """Whether all budgets are this transaction's now. Where there is no statement for it, the whole database is."""
        if self._sql.lock is None or not budget_ids:
            return True
        rows = self._sql.lock.rows(connection, ids=self._sql.many(budget_ids), idle_ms=_IDLE_MS)
        return len(rows) == len(budget_ids)

    def _rows(self, connection: Connection, budgets: Sequence[Budget], now_s: float) -> Sequence[Any]:
        """Spent, reserved, and the id where there is a row, for each budget."""
        ids = self._sql.many([budget.id for budget in budgets])
        firsts = self._sql.many([first_bucket(budget.window, now_s) for budget in budgets])
        return self._sql.look.rows(connection, ids=ids, firsts=firsts)

    def _end(self, connection: Connection, ends: Sequence[End], now_s: float) -> None:
        strays = {end.lease_id for end in ends if end.stray}
        if strays:
            strays -= {lease_id for lease_id, reserved in self._leases(connection, strays) if reserved <= ENDED}
        ids = self._sql.many([end.lease_id for end in ends])
        held = {row[0]: row for row in self._sql.end_leases.rows(connection, ids=ids)}
        changes = _Changes(begun=[(lease_id, ENDED, {}) for lease_id in sorted(strays)])
        for end in ends:
            if end.lease_id in held:
                _, reserved, buckets = held[end.lease_id]
                if reserved < ENDED:
                    _correct(changes, end, EXPIRED - reserved, mapping(buckets), now_s)
                    continue
                changes.reserve(mapping(buckets), -reserved)
            if end.cost and (end.lease_id in held or end.lease_id in strays):
                for budget in end.budgets:
                    changes.spend(budget.id, bucket_of(budget.window, end.at_s), end.cost)
        self._write(connection, changes, now_s)
        self._prune(connection, ends, now_s)

    def _take(self, connection: Connection, steps: Sequence[Step], now_s: float) -> list[Answer]:
        given_up = {budget.id: budget for step in steps if isinstance(step, Admit) for budget in step.old}
        budgets = list((given_up | {budget.id: budget for step in steps for budget in step.budgets}).values())
        picture = MemoryBudgets()
        for budget, (spent, reserved, with_row) in zip(budgets, self._rows(connection, budgets, now_s), strict=True):
            if with_row is None:  # only where there are no locks
                self.add_rows(connection, [budget.id])
            picture.load(budget, spent, reserved)
        asked_of = {one for step in steps if (one := step.old_id if isinstance(step, Admit) else step.lease_id)}
        known = {one: held for one, held in self._leases(connection, asked_of) if held > ENDED}
        changes = _Changes()
        answers = [
            _admit(picture, known, changes, step, now_s)
            if isinstance(step, Admit)
            else _extend(picture, known, changes, step, now_s)
            for step in steps
        ]
        self._write(connection, changes, now_s)
        return answers

    def _leases(self, connection: Connection, ids: Iterable[str]) -> Sequence[Any]:
        wanted = list(ids)
        return self._sql.leases.rows(connection, ids=self._sql.many(wanted)) if wanted else ()

    def _write(self, connection: Connection, changes: _Changes, now_s: float) -> None:
        if changes.replaced:
            self._sql.end_leases.rows(connection, ids=self._sql.many(changes.replaced))
        until, ended_until = now_s + self._lease_s, now_s + _REMEMBERED * self._lease_s
        begun = [
            {
                "lease": lease_id,
                "until": until if reserved > ENDED else ended_until,
                "reserved": reserved,
                "buckets": json.dumps(buckets),
            }
            for lease_id, reserved, buckets in changes.begun
        ]
        extended = [
            {"lease": lease_id, "until": until, "more": more, "buckets": json.dumps(buckets)}
            for lease_id, more, buckets in changes.extended
        ]
        reserved = [{"budget": budget_id, "more": more} for budget_id, more in changes.reserved.items() if more]
        spent = [{"budget": key[0], "bucket": key[1], "cost": cost} for key, cost in changes.spent.items()]
        self._sql.begin_lease.each(connection, begun)
        self._sql.extend_lease.each(connection, extended)
        self._sql.reserve.each(connection, reserved)
        self._sql.spend.each(connection, spent)

    def _prune(self, connection: Connection, ends: Sequence[End], now_s: float) -> None:
        """Rolling windows leave a bucket behind now and then; what no longer counts goes."""
        if len(self._pruned) > _MOST_PRUNED:
            self._pruned.clear()
        old = {}
        for budget in {budget.id: budget for end in ends for budget in end.budgets}.values():
            if budget.window.kind is WindowKind.ROLLING:
                first = first_bucket(budget.window, now_s)
                if self._pruned.get(budget.id) != first:
                    self._pruned[budget.id] = old[budget.id] = first
        self._sql.forget.each(connection, [{"budget": one, "first": first} for one, first in old.items()])


def _correct(changes: _Changes, end: End, charged: int, buckets: Mapping[str, int], now_s: float) -> None:
    """A lease that has expired is charged its real cost instead, in the buckets that were charged."""
    for budget in end.budgets:
        bucket = buckets.get(budget.id)
        if bucket is not None and bucket >= first_bucket(budget.window, now_s) and end.cost != charged:
            changes.spend(budget.id, bucket, end.cost - charged)


def _admit(picture: MemoryBudgets, known: dict[str, int], changes: _Changes, step: Admit, now_s: float) -> Answer:
    old_cost = known.get(step.old_id, 0) if step.old_id is not None else 0
    answer = picture.reserve(step.budgets, step.cost, now_s, step.old, old_cost)
    if not isinstance(answer, Refused):
        changes.begun.append((step.lease_id, step.cost, _buckets(step.budgets, now_s)))
        changes.reserve((budget.id for budget in step.budgets), step.cost)
        if step.old_id in known:
            changes.reserve((budget.id for budget in step.old), -known.pop(step.old_id))
            changes.replaced.append(step.old_id)
    return answer


def _extend(picture: MemoryBudgets, known: dict[str, int], changes: _Changes, step: Extend, now_s: float) -> bool:
    if step.lease_id not in known or isinstance(picture.reserve(step.budgets, step.more, now_s), Refused):
        return False
    known[step.lease_id] += step.more
    changes.extended.append((step.lease_id, step.more, _buckets(step.budgets, now_s)))
    changes.reserve((budget.id for budget in step.budgets), step.more)
    return True


def _buckets(budgets: Sequence[Budget], now_s: float) -> Mapping[str, int]:
    return {budget.id: bucket_of(budget.window, now_s) for budget in budgets}
