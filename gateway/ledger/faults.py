"""Whose fault a failed write is: the database's (try again later) or perhaps the row's (look at rows one by one)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# SQLSTATE classes: connection, feature or state, privileges, resources, limits of the server's state, operator, system.
_AWAY_STATES: Final = ("08", "0A", "25", "28", "3D", "40", "42", "53", "55", "57", "58", "F0", "XX")
_ROW_CODES: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})


class DatabaseUnavailable(ConnectionError):
    """The database did not answer a question; the message is one line without secrets."""


class SchemaError(RuntimeError):
    """A database that cannot be used or changed as asked; the message names the next step."""


@contextmanager
def asking() -> Iterator[None]:
    """Whatever SQLAlchemy, the driver or the network raise in this block becomes `DatabaseUnavailable`."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise DatabaseUnavailable(f"the database did not answer: {describe(error)}") from error


def is_away(error: BaseException) -> bool:
    """Whether the database, not a row, is the reason. Without a code that tells, a row may be to blame."""
    if isinstance(error, (TimeoutError, PoolTimeout, OSError)):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    driver = error.orig
    state = getattr(driver, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_AWAY_STATES)
    code = getattr(driver, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & 0xFF not in _ROW_CODES
    return False


def describe(error: BaseException) -> str:
    """One line for logs: kinds and codes only, since a database's own words may quote the row."""
    driver = error.orig if isinstance(error, DBAPIError) else None
    code = getattr(driver, "sqlstate", None) or getattr(driver, "sqlite_errorname", None)
    name = type(driver or error).__name__
    if code:
        return f"{name} {code}"
    if isinstance(error, SQLAlchemyError) or not str(error):
        return name
    return f"{name}: {error}"[:200]
