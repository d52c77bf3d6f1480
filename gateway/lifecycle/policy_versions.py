"""Every version of the policies that admins wrote, and which of them is in force; does not look inside a policy.

Versions and moves of the pointers are rows that are added and never changed. A scope is "" (everybody) or an
organisation's, team's or key's: "team:ID".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from sqlalchemy import Row, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.admission.rule_store import subject_of
from gateway.admission.rules import Scope
from gateway.ledger.acts import POLICY, Act, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.lifecycle_tables import policy_active, policy_move, policy_version
from gateway.ledger.rows import clean

State = Literal["draft", "ready"]
ACTIVATE: Final = "activate"
ROLLBACK: Final = "rollback"
SCOPES: Final = (Scope.ORGANISATION, Scope.TEAM, Scope.KEY)


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version; `sha256` is that of `body` (hex), `created_at` Unix seconds, `parent_id` what it was made from."""

    id: int
    name: str
    body: str
    sha256: str
    author: str
    note: str
    created_at: float
    state: State = "ready"
    parent_id: int | None = None


@dataclass(frozen=True, slots=True)
class Pointer:
    """What is in force in a scope since `at` (Unix seconds); no version: what files say. Moves raise `revision`."""

    name: str
    scope: str
    version_id: int | None
    revision: int
    at: float
    actor: str


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a pointer; `action` is "activate" or "rollback"."""

    id: int
    name: str
    scope: str
    version_id: int | None
    revision: int
    action: str
    at: float
    actor: str
    note: str


class StaleRevision(ValueError):
    """Somebody else has moved the pointer since: `found` is where it stands, None for a policy that only files have."""

    def __init__(self, name: str, scope: str, found: Pointer | None) -> None:
        self.found = found
        now = "revision 0: only files have it" if found is None else _told(found)
        where = f" for {scope}" if scope else ""
        super().__init__(
            f"the policy '{name}' was changed{where} meanwhile; it is at {now}. Look at it, then try again"
        )


class NoSuchVersion(ValueError):
    """There is no version of that number and name, or it can't be put in force; the message says which."""


class PolicyVersions:
    """The versions and pointers; every method raises `DatabaseUnavailable` (an `OSError`) without a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        self._bodies: dict[int, VersionRow] = {}

    async def push(self, name: str, body: str, author: str, note: str, *, actor: str | None = None) -> VersionRow:
        """Save a version that is ready, and put it in force for everybody, in one act.

        `actor` is who stands in the audit log, the author unless given.
        """
        async with acting(self._engine, actor or author) as act:
            row = await _add(act, name, body, author, note, "ready", None)
            await self._move(act, name, "", row.id, ACTIVATE, note, None)
            await act.done("policy.push", name, {"version": row.id, "sha256": row.sha256}, Change(POLICY, name))
        return row

    async def save(
        self,
        name: str,
        body: str,
        author: str,
        note: str,
        *,
        state: State = "ready",
        parent_id: int | None = None,
        actor: str | None = None,
    ) -> VersionRow:
        """Add a version; nothing is in force by that. A draft becomes ready by being saved again as such."""
        async with acting(self._engine, actor or author) as act:
            row = await _add(act, name, body, author, note, state, parent_id)
            await act.done("policy.save", name, {"version": row.id, "sha256": row.sha256, "state": state})
        return row

    async def activate(
        self,
        name: str,
        version_id: int | None,
        *,
        actor: str,
        scope: str = "",
        note: str = "",
        if_revision: int | None = None,
    ) -> Pointer:
        """Put a version that is ready in force in a scope; None: what files say.

        Raises `NoSuchVersion`, `StaleRevision` where the pointer is not at `if_revision` (0: there is none), and
        `RefusedField` where a scope's subject does not exist.
        """
        async with acting(self._engine, actor) as act:
            if version_id is not None:
                await _must_be_ready(act.connection, name, version_id)
            pointer = await self._move(act, name, scope, version_id, ACTIVATE, note, if_revision)
            await act.done("policy.activate", name, _detail(pointer, note), Change(POLICY, name))
        return pointer

    async def rollback(
        self, name: str, *, actor: str, scope: str = "", note: str = "", if_revision: int | None = None
    ) -> Pointer:
        """Put in force again what was before, further back each time. Raises as `activate` does."""
        async with acting(self._engine, actor) as act:
            scope = await _subject(act.connection, scope)
            before = _before(name, await _moves(act.connection, name, scope))
            pointer = await self._move(act, name, scope, before, ROLLBACK, note, if_revision)
            await act.done("policy.rollback", name, _detail(pointer, note), Change(POLICY, name))
        return pointer

    async def before(self, name: str, scope: str = "") -> tuple[int | None, int]:
        """Which version a rollback would put in force, and the revision that this was read at; `NoSuchVersion`."""
        moves = list(reversed(await self.moves(name, scope)))
        return _before(name, moves), moves[-1].revision

    async def version(self, version_id: int) -> VersionRow | None:
        """One version, of whatever name."""
        return (await self.versions([version_id])).get(version_id)

    async def versions(self, ids: Collection[int]) -> dict[int, VersionRow]:
        """Versions by id; what was read once is not read again, since rows never change."""
        missing = [one for one in ids if one not in self._bodies]
        if missing:
            statement = select(policy_version).where(policy_version.c.id.in_(missing))
            with asking():
                async with self._engine.connect() as connection:
                    for row in (await connection.execute(statement)).all():
                        self._bodies[row.id] = _version(row)
        return {one: self._bodies[one] for one in ids if one in self._bodies}

    async def pointers(self) -> list[Pointer]:
        """All that were ever set, cheap to ask for again and again."""
        with asking():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(select(policy_active))).all()
        return [Pointer(**row._mapping) for row in rows]

    async def pointer(self, name: str, scope: str = "") -> Pointer | None:
        """Where one stands."""
        with asking():
            async with self._engine.connect() as connection:
                return await _pointer(connection, name, scope)

    async def active(self) -> Mapping[tuple[str, str], VersionRow]:
        """The versions in force by name and scope."""
        pointers = [one for one in await self.pointers() if one.version_id is not None]
        rows = await self.versions([one.version_id for one in pointers if one.version_id is not None])
        return {(one.name, one.scope): rows[one.version_id] for one in pointers if one.version_id in rows}

    async def history(self, name: str) -> list[VersionRow]:
        """Every version of a name, newest first."""
        statement = select(policy_version).where(policy_version.c.name == name).order_by(policy_version.c.id.desc())
        with asking():
            async with self._engine.connect() as connection:
                return [_version(row) for row in (await connection.execute(statement)).all()]

    async def moves(self, name: str, scope: str = "") -> list[Move]:
        """Every move of a pointer, newest first."""
        with asking():
            async with self._engine.connect() as connection:
                return list(reversed(await _moves(connection, name, scope)))

    async def _move(
        self,
        act: Act,
        name: str,
        scope: str,
        version_id: int | None,
        action: str,
        note: str,
        if_revision: int | None,
    ) -> Pointer:
        """Acts queue up, so nobody comes between what is read here and what is written."""
        scope = await _subject(act.connection, scope)
        found = await _pointer(act.connection, name, scope)
        revision = found.revision if found is not None else 0
        if if_revision is not None and if_revision != revision:
            raise StaleRevision(name, scope, found)
        pointer = Pointer(name, scope, version_id, revision + 1, time.time(), clean(act.actor))
        values = asdict(pointer)
        newer = {key: values[key] for key in ("version_id", "revision", "at", "actor")}
        said = self._insert(policy_active).values(values)
        await act.connection.execute(said.on_conflict_do_update(index_elements=["name", "scope"], set_=newer))
        await act.connection.execute(insert(policy_move).values(**values, action=action, note=clean(note)))
        return pointer


async def _add(
    act: Act, name: str, body: str, author: str, note: str, state: State, parent_id: int | None
) -> VersionRow:
    if parent_id is not None:
        await _must_exist(act.connection, name, parent_id)
    values = {
        "name": name,
        "body": body,
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
        "author": clean(author),
        "note": clean(note),
        "state": state,
        "parent_id": parent_id,
    }
    statement = insert(policy_version).values(**values, created_at=time.time()).returning(policy_version)
    return _version((await act.connection.execute(statement)).one())


async def _must_exist(connection: AsyncConnection, name: str, version_id: int) -> str:
    found = select(policy_version.c.state).where(policy_version.c.id == version_id, policy_version.c.name == name)
    state = await connection.scalar(found)
    if state is None:
        raise NoSuchVersion(f"the policy '{name}' has no version {version_id}")
    return str(state)


async def _must_be_ready(connection: AsyncConnection, name: str, version_id: int) -> None:
    if await _must_exist(connection, name, version_id) != "ready":
        raise NoSuchVersion(f"version {version_id} of policy '{name}' is a draft: save it as ready first")


async def _subject(connection: AsyncConnection, scope: str) -> str:
    """The scope that a pointer is kept under: of a rotated key its line's."""
    if not scope:
        return scope
    kind, _, subject = scope.partition(":")
    return f"{kind}:{await subject_of(connection, Scope(kind), subject)}"


async def _pointer(connection: AsyncConnection, name: str, scope: str) -> Pointer | None:
    wanted = select(policy_active).where(policy_active.c.name == name, policy_active.c.scope == scope)
    row = (await connection.execute(wanted)).one_or_none()
    return None if row is None else Pointer(**row._mapping)


async def _moves(connection: AsyncConnection, name: str, scope: str) -> list[Move]:
    wanted = select(policy_move).where(policy_move.c.name == name, policy_move.c.scope == scope)
    return [Move(**row._mapping) for row in (await connection.execute(wanted.order_by(policy_move.c.id))).all()]


def _before(name: str, moves: Sequence[Move]) -> int | None:
    standing = _standing(moves)
    if not standing or standing == [None]:
        raise NoSuchVersion(f"nothing was in force before what is now of policy '{name}'")
    return standing[-2] if len(standing) > 1 else None


def _standing(moves: Iterable[Move]) -> Sequence[int | None]:
    """What each further rollback would lead to, the current one last: one takes an activation back."""
    standing: list[int | None] = []
    for move in moves:
        if move.action == ROLLBACK and standing:
            standing[-2:] = [move.version_id]
        else:
            standing.append(move.version_id)
    return standing


def _detail(pointer: Pointer, note: str) -> dict[str, object]:
    return {"version": pointer.version_id, "scope": pointer.scope, "revision": pointer.revision, "note": note}


def _told(pointer: Pointer) -> str:
    return f"revision {pointer.revision} (by {pointer.actor})"


def _version(row: Row[Any]) -> VersionRow:
    return VersionRow(**row._mapping)
