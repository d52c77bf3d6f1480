"""Budgets and rate limits in SQL: created, updated, deleted, listed. Asked off the hot path only.

What is set for a key is stored under the first key of its line, so that it outlives every rotation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Row, Select, Table, and_, bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.ids import new_id
from gateway.admission.rules import NO_RULES, Budget, Period, RateLimit, Rules, Scope, Window, WindowKind
from gateway.admission.terms import RefusedField
from gateway.ledger.acts import ITSELF, Act, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.tables import api_key, budget, organisation, rate_limit, team

Rule = TypeVar("Rule", Budget, RateLimit)
Subject = tuple[Scope, str]
_TENANTS: Final[Mapping[Scope, Table]] = {Scope.ORGANISATION: organisation, Scope.TEAM: team, Scope.KEY: api_key}


class RuleStore:
    """Both tables; every method raises `DatabaseUnavailable` when the database does not answer.

    Writers raise `RefusedField` for a subject that does not exist; the rest is checked before (`rule_checks`).
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, rule: Rule, *, actor: str = ITSELF) -> Rule:
        """Store a rule under a new id; of rate limits each subject has at most one."""
        async with acting(self._engine, actor) as act:
            stored = replace(rule, id=new_id(), scope_id=await subject_of(act.connection, rule.scope, rule.scope_id))
            if isinstance(stored, RateLimit):
                await _refuse_second(act.connection, stored)
            table = _table(type(rule))
            await act.connection.execute(insert(table).values(**_values(stored), created_at=time.time()))
            await _done(act, "create", stored, _told(stored))
        return stored

    async def update(
        self, kind: type[Rule], rule_id: str, edit: Callable[[Rule], Rule], *, actor: str = ITSELF
    ) -> Rule | None:
        """Store what `edit` makes of a rule; None where there is none. Subject and window stay as they are."""
        table = _table(kind)
        async with acting(self._engine, actor) as act:
            row = (await act.connection.execute(select(table).where(table.c.id == rule_id))).one_or_none()
            if row is None:
                return None
            old = _rule(kind, row)
            new = edit(old)
            await act.connection.execute(update(table).where(table.c.id == rule_id).values(**_values(new)))
            before, after = _values(old), _values(new)
            await _done(act, "update", new, {k: v for k, v in _told(new).items() if before[k] != after[k]})
        return new

    async def delete(self, kind: type[Rule], rule_id: str, *, actor: str = ITSELF) -> bool:
        """Remove a rule; False where there is none."""
        table = _table(kind)
        async with acting(self._engine, actor) as act:
            gone = delete(table).where(table.c.id == rule_id).returning(table)
            row = (await act.connection.execute(gone)).one_or_none()
            if row is None:
                return False
            old = _rule(kind, row)
            await _done(act, "delete", old, _told(old))
        return True

    async def list(self, kind: type[Rule], scope: Scope | None = None, scope_id: str | None = None) -> Sequence[Rule]:
        """Rules of one kind, oldest first; those of a scope, or of one subject in it. A rotated key has its line's."""
        table = _table(kind)
        statement = select(table).order_by(table.c.created_at, table.c.id)
        if scope is not None:
            statement = statement.where(table.c.scope == scope)
        with asking():
            async with self._engine.connect() as connection:
                if scope_id is not None:
                    root = await _root_of(connection, scope_id) if scope is Scope.KEY else None
                    statement = statement.where(table.c.scope_id == (root or scope_id))
                return [_rule(kind, row) for row in (await connection.execute(statement)).all()]

    async def get(self, kind: type[Rule], rule_id: str) -> Rule | None:
        """One rule."""
        table = _table(kind)
        with asking():
            async with self._engine.connect() as connection:
                row = (await connection.execute(select(table).where(table.c.id == rule_id))).one_or_none()
        return None if row is None else _rule(kind, row)

    async def of_scopes(self, *scopes: Scope) -> Mapping[Subject, Rules]:
        """The rules of every subject in these scopes that has any."""
        found: dict[Subject, Rules] = {}
        with asking():
            async with self._engine.connect() as connection:
                budgets = (await connection.execute(_ordered(budget).where(budget.c.scope.in_(scopes)))).all()
                limits = (await connection.execute(_ordered(rate_limit).where(rate_limit.c.scope.in_(scopes)))).all()
        for rules in (*_each(Budget, budgets), *_each(RateLimit, limits)):
            one = (rules.budgets or rules.limits)[0]
            found[one.scope, one.scope_id] = found.get((one.scope, one.scope_id), NO_RULES) + rules
        return found


async def rules_of(connection: AsyncConnection, key_id: str, team_id: str | None, organisation_id: str | None) -> Rules:
    """The rules of a key (of its line's first one), its team and its organisation together, in a lasting order."""
    subjects = {"key": key_id, "team": team_id, "organisation": organisation_id}
    budgets = (await connection.execute(_BUDGETS_ABOVE, subjects)).all()
    limits = (await connection.execute(_LIMITS_ABOVE, subjects)).all()
    if not budgets and not limits:
        return NO_RULES
    return Rules(tuple(_rule(Budget, row) for row in budgets), tuple(_rule(RateLimit, row) for row in limits))


def _each(kind: type[Budget] | type[RateLimit], rows: Sequence[Row[Any]]) -> list[Rules]:
    if kind is Budget:
        return [Rules(budgets=(_rule(Budget, row),)) for row in rows]
    return [Rules(limits=(_rule(RateLimit, row),)) for row in rows]


def _ordered(table: Table) -> Select[Any]:
    return select(table).order_by(table.c.created_at, table.c.id)


def _above(table: Table) -> Select[Any]:
    """The rules of three subjects; built once, since keys are looked up again and again."""
    scopes = (Scope.KEY, Scope.TEAM, Scope.ORGANISATION)
    named = (and_(table.c.scope == str(scope), table.c.scope_id == bindparam(str(scope))) for scope in scopes)
    return _ordered(table).where(or_(*named))


_BUDGETS_ABOVE: Final = _above(budget)
_LIMITS_ABOVE: Final = _above(rate_limit)


def _table(kind: type[Budget] | type[RateLimit]) -> Table:
    return budget if kind is Budget else rate_limit


async def subject_of(connection: AsyncConnection, scope: Scope, scope_id: str) -> str:
    """The id that rules and policies of a subject are stored under; `RefusedField` where there is none."""
    table = _TENANTS.get(scope)
    if table is None:
        return scope_id
    row = (await connection.execute(select(table).where(table.c.id == scope_id))).one_or_none()
    if row is None or row.revoked_at is not None:
        raise RefusedField("scope_id", f"There is no {scope} '{scope_id[:80]}', or it is revoked.")
    return (row.root_id or scope_id) if scope is Scope.KEY else scope_id


async def _root_of(connection: AsyncConnection, key_id: str) -> str | None:
    root: str | None = (await connection.execute(select(api_key.c.root_id).where(api_key.c.id == key_id))).scalar()
    return root


async def _refuse_second(connection: AsyncConnection, limit: RateLimit) -> None:
    same = (rate_limit.c.scope == limit.scope, rate_limit.c.scope_id == limit.scope_id)
    there = (await connection.execute(select(rate_limit.c.id).where(*same))).scalar()
    if there is not None:
        raise RefusedField("scope_id", f"This {limit.scope} has a rate limit already: '{there}'. Update that one.")


async def _done(act: Act, verb: str, rule: Budget | RateLimit, detail: Mapping[str, object]) -> None:
    kind = "budget" if isinstance(rule, Budget) else "limit"
    await act.done(f"{kind}.{verb}", rule.id, detail, Change(rule.scope, rule.scope_id))


def _told(rule: Budget | RateLimit) -> dict[str, object]:
    """A rule as the audit log keeps it: of a webhook the host alone, since its path may be a secret."""
    values = _values(rule)
    if values.get("webhook_url"):
        values["webhook_url"] = urlsplit(values["webhook_url"]).hostname
    return values


def _values(rule: Budget | RateLimit) -> dict[str, Any]:
    values = {one.name: getattr(rule, one.name) for one in fields(rule)}
    window = values.pop("window", None)
    if window is not None:
        values |= {"window": window.kind, "period": window.period, "window_s": window.seconds}
    return {
        name: str(value) if isinstance(value, Scope | WindowKind | Period) else value for name, value in values.items()
    }


def _rule(kind: type[Rule], row: Row[Any]) -> Rule:
    columns = dict(row._mapping)
    del columns["created_at"]
    columns["scope"] = Scope(columns["scope"])
    if kind is Budget:
        period, seconds = columns.pop("period"), columns.pop("window_s")
        columns["window"] = Window(WindowKind(columns["window"]), Period(period) if period else None, seconds)
    return kind(**columns)
