"""Virtual keys in SQL: issued, imported, listed, revoked and found; only a key's SHA-256 is ever stored.

Asked off the hot path only; `gateway.admission.keys` stands between it and requests.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import Row, Select, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.tables import api_key

Role = Literal["application", "admin"]

_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_SUPERSEDED: Final = "superseded"
_EARLIEST_S: Final = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_LATEST_S: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


class RefusedKey(ValueError):
    """A key that must not be issued as asked; `field` says which part is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key without its secret; `policy` None means the default policy, `allowed_models` None all that it allows."""

    id: str
    sha256: str
    name: str
    role: Role
    policy: str | None
    allowed_models: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    metadata: Mapping[str, Any]

    def is_valid(self, now_s: float) -> bool:
        """Whether the key opens anything at `now_s` (Unix seconds)."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at.timestamp() > now_s)


def token_hash(token: str) -> str:
    """SHA-256 of the whole token, hex: a key's identity at rest."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def check_new(
    name: str,
    policy: str | None,
    allowed_models: Sequence[str] | None,
    expires_at: datetime | None,
    *,
    policies: Collection[str],
    models: Collection[str],
) -> None:
    """Raise `RefusedKey` for a key that could never work, or that names what does not exist."""
    texts = [("name", name), ("policy", policy or ""), *(("allowed_models", model) for model in allowed_models or ())]
    for field, text in texts:
        if not _storable(text):
            raise RefusedKey(field, f"'{field}' holds characters that can't be stored.")
    if not name.strip():
        raise RefusedKey("name", "'name' must say what or whom the key is for.")
    if policy is not None and policy not in policies:
        raise RefusedKey("policy", f"There is no policy '{policy[:80]}'; known: {', '.join(sorted(policies))}.")
    for model in allowed_models or ():
        if model not in models:
            raise RefusedKey("allowed_models", f"There is no model '{model[:80]}' in the catalogue.")
    expires_s = _seconds(expires_at)
    if expires_s is not None and not time.time() < expires_s < _LATEST_S:
        raise RefusedKey("expires_at", "'expires_at' must lie in the future and before the year 9999 (UTC).")


def _storable(text: str) -> bool:
    """Neither a lone surrogate nor NUL, which PostgreSQL does not take."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


class KeyStore:
    """The key table; every method raises `DatabaseUnavailable` (an `OSError`) when the database does not answer."""

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
    ) -> tuple[KeyRow, str]:
        """A new key and its token, `fp-<12>-<43>`, which is shown now and never again; a naive time counts as UTC."""
        key_id = _new_id()
        token = f"fp-{key_id}-{secrets.token_urlsafe(32)}"
        values = {
            **_new_values(key_id, token, name, role, metadata),
            "policy": policy,
            "expires_at": _seconds(expires_at),
            "allowed_models": list(allowed_models) if allowed_models is not None else None,
        }
        with asking():
            async with writing(self._engine).begin() as connection:
                row = (await connection.execute(insert(api_key).values(**values).returning(api_key))).one()
        return _key(row), token

    async def import_key(self, token: str, role: Role, name: str) -> KeyRow:
        """Make a token that an operator chose a valid key; may be repeated at every start, by several processes.

        `name` says which setting it is from: another token imported under that name before is no longer valid. A key
        that was revoked by hand stays revoked. Raises `ValueError` where the token already stands for another role.
        """
        sha256 = token_hash(token)
        insert_on = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        values = _new_values(_new_id(), token, name, role, {"imported": True})
        with asking():
            async with writing(self._engine).begin() as connection:
                once = insert_on(api_key).values(**values).on_conflict_do_nothing(index_elements=["sha256"])
                await connection.execute(once)
                stands_for = (await connection.execute(_by_hash(sha256))).one().role
                if stands_for != role:
                    raise ValueError(f"the key for {name!r} exists already, with role {stands_for}; choose another")
                await _supersede(connection, name, sha256)
                return _key((await connection.execute(_by_hash(sha256))).one())

    async def revoke(self, key_id: str) -> bool:
        """Make a key invalid for good; False where there is no such valid key."""
        change = update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        with asking():
            async with writing(self._engine).begin() as connection:
                return bool((await connection.execute(change.values(revoked_at=time.time()))).rowcount)

    async def list(self) -> Sequence[KeyRow]:
        """All keys, oldest first, the revoked too."""
        return [_key(row) for row in await self._rows(select(api_key).order_by(api_key.c.created_at, api_key.c.id))]

    async def find(self, sha256_hex: str) -> KeyRow | None:
        """The key whose token has this hash, valid or not."""
        rows = await self._rows(_by_hash(sha256_hex))
        return _key(rows[0]) if rows else None

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


async def _supersede(connection: AsyncConnection, name: str, sha256: str) -> None:
    """Of the tokens imported under a name only the given one is valid; one made invalid so may come back so."""
    for row in (await connection.execute(select(api_key).where(api_key.c.name == name))).all():
        metadata = dict(row.metadata)
        if not metadata.get("imported"):
            continue
        wanted = row.sha256 == sha256
        if wanted and metadata.pop(_SUPERSEDED, False):
            change: dict[str, Any] = {"revoked_at": None, "metadata": metadata}
        elif not wanted and row.revoked_at is None:
            change = {"revoked_at": time.time(), "metadata": {**metadata, _SUPERSEDED: True}}
        else:
            continue
        await connection.execute(update(api_key).where(api_key.c.id == row.id).values(change))


def _by_hash(sha256_hex: str) -> Select[Any]:
    return select(api_key).where(api_key.c.sha256 == sha256_hex)


def _new_id() -> str:
    """12 of 36 characters, 62 bits; no dash or underscore, so that a command line never takes it for an option."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))


def _new_values(key_id: str, token: str, name: str, role: Role, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "id": key_id,
        "sha256": token_hash(token),
        "name": name,
        "role": role,
        "created_at": time.time(),
        "metadata": dict(metadata or {}),
    }


def _seconds(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment(seconds: float | None) -> datetime | None:
    """Clamped, so that no row, however it came about, makes all keys unreadable."""
    return None if seconds is None else datetime.fromtimestamp(min(max(seconds, _EARLIEST_S), _LATEST_S), UTC)


def _key(row: Row[Any]) -> KeyRow:
    return KeyRow(
        id=row.id,
        sha256=row.sha256,
        name=row.name,
        role=row.role,
        policy=row.policy,
        allowed_models=tuple(row.allowed_models) if row.allowed_models is not None else None,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        expires_at=_moment(row.expires_at),
        revoked_at=_moment(row.revoked_at),
        metadata=row.metadata,
    )
