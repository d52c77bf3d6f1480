"""Virtual keys in SQL: issued, imported, rotated, revoked and found; only a key's SHA-256 is ever stored.

Asked off the hot path only; `gateway.admission.keys` stands between it and requests.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, Select, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.grants import Grant, KeyRow, Role, grant_of
from gateway.admission.ids import new_id
from gateway.admission.rule_store import rules_of
from gateway.admission.rules import Scope
from gateway.admission.tenant_store import check_living, tenant_of
from gateway.admission.terms import (
    IMPORTED,
    RESERVED,
    SUPERSEDED,
    RefusedField,
    Terms,
    differences,
    from_columns,
    moment,
    seconds,
    to_columns,
)
from gateway.ledger.acts import ITSELF, Act, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.tables import api_key, organisation, team

LONGEST_OVERLAP_S: Final = 90 * 86_400.0


def token_hash(token: str) -> str:
    """SHA-256 of the whole token, hex: a key's identity at rest."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class KeyStore:
    """The key table; every method raises `DatabaseUnavailable` (an `OSError`) when the database does not answer.

    Writers raise `RefusedField` for what can't be; terms are checked before (`terms.check_terms`).
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def issue(
        self,
        name: str,
        role: Role = "application",
        policy: str | None = None,
        expires_at: datetime | None = None,
        allowed_models: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        team_id: str | None = None,
        *,
        actor: str = ITSELF,
    ) -> tuple[KeyRow, str]:
        """A new key and its token, `fp-<12>-<43>`, which is shown now and never again; a naive time counts as UTC."""
        models = tuple(allowed_models) if allowed_models is not None else None
        terms = Terms(
            name=name, policy=policy, allowed_models=models, expires_at=expires_at, metadata=dict(metadata or {})
        )
        async with acting(self._engine, actor) as act:
            row, token = await _insert(act.connection, terms, role, team_id)
            detail = {"role": role, "team_id": team_id, **differences(terms, Terms(name=""))}
            await act.done("key.issue", row.id, detail, Change(Scope.KEY, row.id))
        return row, token

    async def import_key(self, token: str, role: Role, name: str) -> KeyRow:
        """Make a token that an operator chose a valid key; may be repeated at every start, by several processes.

        `name` says which setting it is from: another token imported under that name before is no longer valid. A key
        that was revoked by hand stays revoked. Raises `ValueError` where the token already stands for another role.
        """
        sha256 = token_hash(token)
        async with acting(self._engine, ITSELF) as act:
            there = (await act.connection.execute(_by_hash(sha256))).one_or_none()
            if there is None:
                terms = Terms(name=name, metadata={IMPORTED: True})
                values = {**_new_values(new_id(), token, role), **to_columns(terms)}
                there = (await act.connection.execute(insert(api_key).values(**values).returning(api_key))).one()
                await act.done("key.import", there.id, {"role": role, "name": name}, Change(Scope.KEY, there.id))
            if there.role != role:
                raise ValueError(f"the key for {name!r} exists already, with role {there.role}; choose another")
            await _supersede(act, name, sha256)
            return _key((await act.connection.execute(_by_hash(sha256))).one())

    async def update(self, key_id: str, edit: Callable[[KeyRow], KeyRow], *, actor: str = ITSELF) -> KeyRow | None:
        """Store the terms and the team of what `edit` makes of a key; None where there is no such key."""
        async with acting(self._engine, actor) as act:
            old = await _locked(act.connection, key_id)
            if old is None:
                return None
            new = edit(old)
            if old.metadata.get(IMPORTED) and new.name != old.name:
                raise RefusedField("name", "This key comes from a setting and is found again by its name.")
            await _check_team(act.connection, new.role, new.team_id if new.team_id != old.team_id else None)
            ours = {name: value for name, value in old.metadata.items() if name in RESERVED}
            values = {**to_columns(replace(new, metadata={**new.metadata, **ours})), "team_id": new.team_id}
            changed = update(api_key).where(api_key.c.id == key_id).values(**values).returning(api_key)
            row = _key((await act.connection.execute(changed)).one())
            await act.done("key.update", key_id, differences(row, old), Change(Scope.KEY, key_id))
        return row

    async def rotate(self, key_id: str, overlap_s: float, *, actor: str = ITSELF) -> tuple[KeyRow, str] | None:
        """A new key with the same terms, and its token; the old one ends after `overlap_s` seconds (0: now).

        Budgets and limits of the key, and what is spent of them, stay with the line. None where there is no such key.
        """
        if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
            raise RefusedField("overlap_s", f"'overlap_s' must be a number of seconds from 0 to {LONGEST_OVERLAP_S:g}.")
        async with acting(self._engine, actor) as act:
            old = await _locked(act.connection, key_id)
            if old is None:
                return None
            _check_rotation(old)
            row, token = await _insert(act.connection, old, old.role, old.team_id, root_id=old.root_id or old.id)
            end_s = min(time.time() + overlap_s, seconds(old.expires_at) or float("inf"))
            ending = update(api_key).where(api_key.c.id == key_id).values(rotated_to=row.id, expires_at=end_s)
            await act.connection.execute(ending)
            await act.done("key.rotate", key_id, {"to": row.id, "ends_at": moment(end_s)}, Change(Scope.KEY, key_id))
        return row, token

    async def revoke(self, key_id: str, *, actor: str = ITSELF) -> bool:
        """Make a key invalid for good; False where there is no such valid key."""
        living = update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        async with acting(self._engine, actor) as act:
            if not (await act.connection.execute(living.values(revoked_at=time.time()))).rowcount:
                return False
            await act.done("key.revoke", key_id, {}, Change(Scope.KEY, key_id))
        return True

    async def list(self, team_id: str | None = None) -> Sequence[KeyRow]:
        """All keys (of a team), oldest first, the revoked too."""
        statement = select(api_key).order_by(api_key.c.created_at, api_key.c.id)
        if team_id is not None:
            statement = statement.where(api_key.c.team_id == team_id)
        return [_key(row) for row in await self._rows(statement)]

    async def get(self, key_id: str) -> KeyRow | None:
        """One key, valid or not."""
        rows = await self._rows(select(api_key).where(api_key.c.id == key_id))
        return _key(rows[0]) if rows else None

    async def find(self, sha256_hex: str) -> Grant | None:
        """What the key opens whose token has this hash, valid or not; three statements."""
        with asking():
            async with self._engine.connect() as connection:
                row = (await connection.execute(_LINE, {"sha256": sha256_hex})).one_or_none()
                if row is None:
                    return None
                key = KeyRow(**from_columns({column.name: row._mapping[column] for column in api_key.columns}))
                its_team, its_organisation = tenant_of(row, team), tenant_of(row, organisation)
                above = (one.id if one else None for one in (its_team, its_organisation))
                rules = await rules_of(connection, key.root_id or key.id, *above)
        return grant_of(key, its_team, its_organisation, rules)

    async def count(self, role: Role) -> int:
        """How many keys of a role are valid now."""
        unexpired = or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > time.time())
        statement = select(func.count()).where(api_key.c.role == role, api_key.c.revoked_at.is_(None), unexpired)
        return int((await self._rows(statement))[0][0])

    async def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with asking():
            async with self._engine.connect() as connection:
                rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
                return rows


async def _insert(
    connection: AsyncConnection, terms: Terms, role: Role, team_id: str | None, root_id: str | None = None
) -> tuple[KeyRow, str]:
    await _check_team(connection, role, team_id)
    key_id = new_id()
    token = f"fp-{key_id}-{secrets.token_urlsafe(32)}"
    values = {**_new_values(key_id, token, role), **to_columns(terms), "team_id": team_id, "root_id": root_id}
    row = (await connection.execute(insert(api_key).values(**values).returning(api_key))).one()
    return _key(row), token


async def _check_team(connection: AsyncConnection, role: Role, team_id: str | None) -> None:
    if team_id is None:
        return
    if role == "admin":
        raise RefusedField("team_id", "An admin key belongs to no team.")
    await check_living(connection, Scope.TEAM, team_id)


def _check_rotation(old: KeyRow) -> None:
    if old.metadata.get(IMPORTED):
        raise RefusedField(
            "id", "This key comes from a setting: change FINGERPOST_ADMIN_KEY or FINGERPOST_BOOTSTRAP_KEY."
        )
    if old.rotated_to is not None:
        raise RefusedField("id", f"This key was rotated already; rotate '{old.rotated_to}'.")
    if not old.is_valid(time.time()):
        raise RefusedField("id", "This key has expired; issue a new one.")


async def _locked(connection: AsyncConnection, key_id: str) -> KeyRow | None:
    """A key that may be changed (acts come one after the other); `RefusedField` for a revoked one."""
    row = (await connection.execute(select(api_key).where(api_key.c.id == key_id))).one_or_none()
    if row is not None and row.revoked_at is not None:
        raise RefusedField("id", "This key is revoked; nothing about it can be changed.")
    return None if row is None else _key(row)


async def _supersede(act: Act, name: str, sha256: str) -> None:
    """Of the tokens imported under a name only the given one is valid; one made invalid so may come back so."""
    for row in (await act.connection.execute(select(api_key).where(api_key.c.name == name))).all():
        metadata = dict(row.metadata)
        if not metadata.get(IMPORTED):
            continue
        wanted = row.sha256 == sha256
        if wanted and metadata.pop(SUPERSEDED, False):
            values: dict[str, Any] = {"revoked_at": None, "metadata": metadata}
        elif not wanted and row.revoked_at is None:
            values = {"revoked_at": time.time(), "metadata": {**metadata, SUPERSEDED: True}}
        else:
            continue
        await act.connection.execute(update(api_key).where(api_key.c.id == row.id).values(values))
        await act.done("key.return" if wanted else "key.supersede", row.id, {"name": name}, Change(Scope.KEY, row.id))


# A key with its team and its organisation; built once, since keys are looked up again and again.
_LINE: Final = (
    select(api_key, team, organisation)
    .select_from(
        api_key.outerjoin(team, api_key.c.team_id == team.c.id).outerjoin(
            organisation, team.c.organisation_id == organisation.c.id
        )
    )
    .where(api_key.c.sha256 == bindparam("sha256"))
)


def _by_hash(sha256_hex: str) -> Select[Any]:
    return select(api_key).where(api_key.c.sha256 == sha256_hex)


def _new_values(key_id: str, token: str, role: Role) -> dict[str, Any]:
    return {"id": key_id, "sha256": token_hash(token), "role": role, "created_at": time.time()}


def _key(row: Row[Any]) -> KeyRow:
    return KeyRow(**from_columns(dict(row._mapping)))
