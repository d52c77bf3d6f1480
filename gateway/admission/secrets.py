"""Providers' keys, encrypted in SQL: set, listed, removed, encrypted anew with a newer key; decrypted in memory only.

Each is a Fernet token (AES-128-CBC with HMAC-SHA256) under one of the operator's keys, the newest of which encrypts.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.terms import RefusedField, SecretKeyError, moment
from gateway.ledger.acts import EVERYTHING, ITSELF, SECRET, Change, acting
from gateway.ledger.faults import asking
from gateway.ledger.tables import provider_secret

if TYPE_CHECKING:
    from gateway.admission.ciphers import Ciphers

log = logging.getLogger(__name__)

MAX_VALUE_CHARS: Final = 16_384
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
NO_KEYS: Final = "set FINGERPOST_SECRET_KEYS first; `fingerpost secrets new-key` makes a key"


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret without its value; `readable` is whether one of the present keys decrypts it."""

    name: str
    created_at: datetime | None
    rotated_at: datetime | None
    readable: bool


def ciphers_of(keys: str) -> Ciphers | None:
    """From Fernet keys with commas between, the newest first; None where there are none. Raises `SecretKeyError`."""
    given = [one.strip() for one in keys.split(",") if one.strip()]
    if not given:
        return None
    from gateway.admission.ciphers import Ciphers

    return Ciphers(given)


class SecretStore:
    """The table and its values in memory; methods raise `DatabaseUnavailable` when the database does not answer.

    Without keys nothing is readable and writers raise `SecretKeyError`.
    """

    def __init__(self, engine: AsyncEngine, ciphers: Ciphers | None) -> None:
        self._engine = engine
        self._ciphers = ciphers
        self._values: Mapping[str, str] = {}

    def value(self, name: str) -> str | None:
        """A secret as `load` last found it; None where there is none that can be read."""
        return self._values.get(name)

    async def load(self) -> bool:
        """Decrypt all into memory; whether anything changed. What can't be read is left out and logged."""
        rows = await self._rows()
        values = {row.name: self._decrypted(row) for row in rows}
        lost = [name for name, value in values.items() if value is None]
        if lost:
            log.error("secrets that no key in FINGERPOST_SECRET_KEYS decrypts: %s", ", ".join(lost))
        before, self._values = self._values, {name: value for name, value in values.items() if value is not None}
        return before != self._values

    async def take_up(self, changes: Iterable[Change]) -> bool:
        """Load again where changes concern secrets; whether any value changed."""
        return any(one.what in (SECRET, EVERYTHING) for one in changes) and await self.load()

    async def set(self, name: str, value: str, *, actor: str = ITSELF) -> None:
        """Store a value under a new name, or in place of an older value."""
        _check(name, value)
        token, now = self._usable().encrypt(name, value), time.time()
        async with acting(self._engine, actor) as act:
            replacing = update(provider_secret).where(provider_secret.c.name == name)
            values = {"token": token, "rotated_at": now}
            there = (await act.connection.execute(replacing.values(**values))).rowcount
            if not there:
                fresh = {"name": name, "token": token, "created_at": now}
                await act.connection.execute(insert(provider_secret).values(**fresh))
            await act.done("secret.replace" if there else "secret.set", name, {}, Change(SECRET, name))

    async def remove(self, name: str, *, actor: str = ITSELF) -> bool:
        """Forget a secret; False where there is none of that name."""
        async with acting(self._engine, actor) as act:
            gone = delete(provider_secret).where(provider_secret.c.name == name)
            if not (await act.connection.execute(gone)).rowcount:
                return False
            await act.done("secret.remove", name, {}, Change(SECRET, name))
        return True

    async def rotate(self, *, actor: str = ITSELF) -> int:
        """Encrypt all anew with the newest key, so that older keys can be dropped; how many there are.

        Raises `SecretKeyError`, and changes nothing, where one can't be read.
        """
        ciphers = self._usable()
        async with acting(self._engine, actor) as act:
            rows = (await act.connection.execute(select(provider_secret))).all()
            for row in rows:
                value = ciphers.decrypt(row.name, row.token)
                if value is None:
                    raise SecretKeyError(f"no key in FINGERPOST_SECRET_KEYS decrypts the secret '{row.name}'")
                one = update(provider_secret).where(provider_secret.c.name == row.name)
                token = ciphers.encrypt(row.name, value)
                await act.connection.execute(one.values(token=token, rotated_at=time.time()))
            await act.done("secrets.rotate", "", {"secrets": len(rows)}, Change(SECRET))
        return len(rows)

    async def list(self) -> Sequence[SecretRow]:
        """All secrets by name, without their values."""
        return [
            SecretRow(row.name, moment(row.created_at), moment(row.rotated_at), self._decrypted(row) is not None)
            for row in await self._rows()
        ]

    async def _rows(self) -> Sequence[Row[Any]]:
        with asking():
            async with self._engine.connect() as connection:
                return (await connection.execute(select(provider_secret).order_by(provider_secret.c.name))).all()

    def _decrypted(self, row: Row[Any]) -> str | None:
        return None if self._ciphers is None else self._ciphers.decrypt(row.name, row.token)

    def _usable(self) -> Ciphers:
        if self._ciphers is None:
            raise SecretKeyError(NO_KEYS)
        return self._ciphers


def _check(name: str, value: str) -> None:
    if not NAME.fullmatch(name):
        raise RefusedField("name", "A secret's name is made of letters, digits and '_', and begins with no digit.")
    if not value or len(value) > MAX_VALUE_CHARS or not (value.isascii() and value.isprintable() and " " not in value):
        raise RefusedField("value", "The value must be a key as providers give them: printable ASCII without spaces.")
