"""Organisations and their teams in SQL: created, updated, listed, revoked. Asked off the hot path only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from sqlalchemy import Row, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.grants import TenantRow
from gateway.admission.ids import new_id
from gateway.admission.rules import Scope
from gateway.admission.terms import RefusedField, Terms, differences, from_columns, storable, to_columns
from gateway.ledger.acts import ITSELF, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.tables import organisation, team

TenantScope = Literal[Scope.ORGANISATION, Scope.TEAM]
_TABLES: Final[Mapping[Scope, Table]] = {Scope.ORGANISATION: organisation, Scope.TEAM: team}


class TenantStore:
    """Both tables; every method raises `DatabaseUnavailable` when the database does not answer.

    Writers raise `RefusedField` for a name that is taken, for an organisation that does not exist, and for changes of
    what is revoked; terms are checked before (`terms.check_terms`).
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create_organisation(self, terms: Terms, *, actor: str = ITSELF) -> TenantRow:
        """A new organisation."""
        return await self._create(Scope.ORGANISATION, terms, {}, actor)

    async def create_team(self, organisation_id: str, terms: Terms, *, actor: str = ITSELF) -> TenantRow:
        """A new team of an organisation."""
        return await self._create(Scope.TEAM, terms, {"organisation_id": organisation_id}, actor)

    async def update(
        self, scope: TenantScope, tenant_id: str, edit: Callable[[TenantRow], TenantRow], *, actor: str = ITSELF
    ) -> TenantRow | None:
        """Store the terms of what `edit` makes of a row; None where there is none."""
        table = _TABLES[scope]
        async with acting(self._engine, actor) as act:
            row = (await act.connection.execute(select(table).where(table.c.id == tenant_id))).one_or_none()
            if row is None:
                return None
            old = _tenant(row)
            if old.revoked_at is not None:
                raise RefusedField("id", f"This {scope} is revoked; nothing about it can be changed.")
            new = edit(old)
            await _refuse_taken(act.connection, scope, new.name, old.organisation_id, tenant_id)
            changed = update(table).where(table.c.id == tenant_id).values(**to_columns(new)).returning(table)
            stored = _tenant((await act.connection.execute(changed)).one())
            await act.done(f"{scope}.update", tenant_id, differences(new, old), Change(scope, tenant_id))
        return stored

    async def revoke(self, scope: TenantScope, tenant_id: str, *, actor: str = ITSELF) -> bool:
        """Make every key below invalid for good; False where there is no such tenant, or it is revoked already."""
        table = _TABLES[scope]
        living = update(table).where(table.c.id == tenant_id, table.c.revoked_at.is_(None))
        async with acting(self._engine, actor) as act:
            if not (await act.connection.execute(living.values(revoked_at=time.time()))).rowcount:
                return False
            await act.done(f"{scope}.revoke", tenant_id, {}, Change(scope, tenant_id))
        return True

    async def list(self, scope: TenantScope, organisation_id: str | None = None) -> Sequence[TenantRow]:
        """Organisations, or teams (of one organisation), oldest first, the revoked too."""
        table = _TABLES[scope]
        statement = select(table).order_by(table.c.created_at, table.c.id)
        if organisation_id is not None:
            statement = statement.where(team.c.organisation_id == organisation_id)
        with asking():
            async with self._engine.connect() as connection:
                return [_tenant(row) for row in (await connection.execute(statement)).all()]

    async def get(self, scope: TenantScope, tenant_id: str) -> TenantRow | None:
        """One organisation or team, revoked or not."""
        table = _TABLES[scope]
        with asking():
            async with self._engine.connect() as connection:
                row = (await connection.execute(select(table).where(table.c.id == tenant_id))).one_or_none()
        return None if row is None else _tenant(row)

    async def _create(self, scope: TenantScope, terms: Terms, above: Mapping[str, str], actor: str) -> TenantRow:
        table, organisation_id = _TABLES[scope], above.get("organisation_id")
        values = {"id": new_id(), **above, **to_columns(terms), "created_at": time.time()}
        async with acting(self._engine, actor) as act:
            if organisation_id is not None:
                await check_living(act.connection, Scope.ORGANISATION, organisation_id)
            await _refuse_taken(act.connection, scope, terms.name, organisation_id)
            row = (await act.connection.execute(insert(table).values(**values).returning(table))).one()
            await act.done(f"{scope}.create", row.id, {**above, **differences(terms, Terms(name=""))})
        return _tenant(row)


async def check_living(connection: AsyncConnection, scope: TenantScope, tenant_id: str) -> None:
    """Raise `RefusedField` where there is no such organisation or team, or it is revoked."""
    table = _TABLES[scope]
    living = select(table.c.id).where(table.c.id == tenant_id, table.c.revoked_at.is_(None))
    if not storable(tenant_id) or (await connection.execute(living)).one_or_none() is None:
        raise RefusedField(f"{scope}_id", f"There is no {scope} '{tenant_id[:80]}', or it is revoked.")


def tenant_of(row: Row[Any], table: Table) -> TenantRow | None:
    """The team or organisation in a row of an outer join; None where that part is empty."""
    if row._mapping[table.c.id] is None:
        return None
    columns = {column.name: row._mapping[column] for column in table.columns}
    return TenantRow(**from_columns({"organisation_id": None, **columns}))


async def _refuse_taken(
    connection: AsyncConnection, scope: TenantScope, name: str, organisation_id: str | None, but_id: str = ""
) -> None:
    table = _TABLES[scope]
    same = select(table.c.id).where(table.c.name == name, table.c.revoked_at.is_(None), table.c.id != but_id)
    if organisation_id is not None:
        same = same.where(team.c.organisation_id == organisation_id)
    if (await connection.execute(same)).first() is not None:
        raise RefusedField("name", f"There is {'a team' if scope is Scope.TEAM else 'an organisation'} of that name.")


def _tenant(row: Row[Any]) -> TenantRow:
    return TenantRow(**from_columns({"organisation_id": None, **row._mapping}))
