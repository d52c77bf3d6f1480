"""Which failures are the database's, which may be a row's."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.ledger.faults import DatabaseUnavailable, asking, describe, is_away


class _Postgres(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("Failing row contains (the prompt)")
        self.sqlstate = sqlstate


def _wrapped(error: Exception) -> DBAPIError:
    return OperationalError("INSERT", {}, error)


def _sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_SOMETHING"
    return error


@pytest.mark.parametrize("state", ["08006", "53100", "53300", "57P01", "42P01", "25006", "40001", "XX001", "28P01"])
def test_a_server_in_trouble_is_away(state: str) -> None:
    assert is_away(_wrapped(_Postgres(state)))


@pytest.mark.parametrize("state", ["22021", "22P02", "23514", "23502", "54000"])
def test_a_value_the_server_refuses_may_be_the_rows_fault(state: str) -> None:
    assert not is_away(_wrapped(_Postgres(state)))


@pytest.mark.parametrize(
    ("code", "away"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_READONLY, True),
        (sqlite3.SQLITE_ERROR, True),  # no such table, no such column
        (sqlite3.SQLITE_CONSTRAINT_TRIGGER, False),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, False),
        (sqlite3.SQLITE_TOOBIG, False),
    ],
)
def test_sqlite_codes_tell_the_file_from_the_row(code: int, away: bool) -> None:
    assert is_away(_wrapped(_sqlite_error(code))) is away


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionRefusedError(), PoolTimeout()])
def test_no_answer_is_away(error: Exception) -> None:
    assert is_away(error)


def test_without_a_code_a_row_may_be_to_blame() -> None:
    assert not is_away(_wrapped(_Postgres(None)))
    assert not is_away(OverflowError("Python int too large"))


def test_descriptions_carry_codes_but_not_the_databases_words() -> None:
    assert describe(_wrapped(_Postgres("23514"))) == "_Postgres 23514"
    assert describe(_wrapped(_sqlite_error(sqlite3.SQLITE_FULL))) == "OperationalError SQLITE_SOMETHING"
    assert describe(_wrapped(_Postgres(None))) == "_Postgres"


def test_a_question_without_an_answer_is_an_oserror_of_our_own() -> None:
    with pytest.raises(DatabaseUnavailable, match="53300"), asking():
        raise _wrapped(_Postgres("53300"))
