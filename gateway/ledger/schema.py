"""Brings a database's tables to this release's shape, back, or says what differs.

Blocking functions for commands and start-up; inside a running event loop call them with `asyncio.to_thread`.
Several processes may start at once: each runs its whole change in one transaction under the database's own lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.ledger import rollup
from gateway.ledger.engine import hidden, normalise_url, open_engine, writing
from gateway.ledger.every_table import metadata
from gateway.ledger.faults import SchemaError
from gateway.ledger.versions import OPTIONS, alembic_config

Result = TypeVar("Result")
LOCK_WAIT_S: Final = 60
USAGE_SINCE: Final = "0013"  # what was logged before is counted when the database comes to this revision
_LOCK_KEY: Final = 0x66696E676572  # "finger": any number that no other application is likely to take


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The database's revision (None: never upgraded), this release's, and what differs from this release's tables."""

    current: str | None
    head: str
    known: bool
    drift: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        """What stands in the way of using this database, with the remedy; None when nothing does."""
        if not self.known:
            return _newer(self.current, self.head)
        if self.current is None:
            return "the database has no Fingerpost tables yet; run: fingerpost db upgrade"
        if self.current != self.head:
            return f"the database is at revision {self.current}, older than {self.head}; run: fingerpost db upgrade"
        if self.drift:
            return "the tables were changed by hand: " + "; ".join(self.drift)
        return None


def check(database_url: str) -> SchemaState:
    """Compare a database with this release; changes nothing (but creates a missing SQLite file).

    Raises `SchemaError` where the database cannot be reached, `DatabaseUrlError` where the URL is wrong.
    """
    return _in_transaction(database_url, _state, lock=False)


def upgrade(database_url: str, revision: str = "head") -> SchemaState:
    """Bring the tables to `revision`; a second caller waits and then finds nothing to do. Errors as for `check`."""
    return _in_transaction(database_url, lambda connection: _upgrade(connection, revision), lock=True)


def downgrade(database_url: str, revision: str) -> SchemaState:
    """Go back to `revision` ("base" drops every table with its rows). Errors as for `check`."""

    def change(connection: Connection) -> SchemaState:
        state = _refuse_newer(connection)
        if state.current is not None:
            _command(command.downgrade, connection, revision)
        return _state(connection)

    return _in_transaction(database_url, change, lock=True)


def _upgrade(connection: Connection, revision: str) -> SchemaState:
    before = _refuse_newer(connection)
    if before.current == before.head and revision == "head":
        return before
    if before.current is None:
        taken = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
        if taken:
            raise SchemaError(f"the database already has tables of other origin named {', '.join(taken)}; use another")
    _command(command.upgrade, connection, revision)
    after = _state(connection)
    if after.current == after.head and (before.current or "") < USAGE_SINCE:
        for day in rollup.days_logged(connection):
            rollup.rebuild_day(connection, day)
    return after


def _refuse_newer(connection: Connection) -> SchemaState:
    state = _state(connection)
    if not state.known:
        raise SchemaError(_newer(state.current, state.head))
    return state


def _newer(current: str | None, head: str) -> str:
    return (
        f"the database is at revision {current}, which this release (revision {head}) does not know: a newer "
        "Fingerpost has upgraded it; install that release here, or downgrade the database with it"
    )


def _state(connection: Connection) -> SchemaState:
    migration = MigrationContext.configure(connection, opts=OPTIONS)
    script = ScriptDirectory.from_config(alembic_config())
    current, head = migration.get_current_revision(), script.get_current_head() or ""
    known = current is None or current in {revision.revision for revision in script.walk_revisions()}
    drift = compare_metadata(migration, metadata) if known and current == head else []
    return SchemaState(current, head, known, tuple(_describe(difference) for difference in drift))


def _describe(difference: object) -> str:
    """Alembic's tuples (or lists of them, for one column's changes) as words."""
    if isinstance(difference, list):
        return ", ".join(_describe(part) for part in difference)
    return " ".join(str(getattr(part, "name", part)) for part in difference) if isinstance(difference, tuple) else ""


def _command(run: Callable[..., None], connection: Connection, revision: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    run(config, revision)


def _in_transaction(database_url: str, work: Callable[[Connection], Result], *, lock: bool) -> Result:
    url = normalise_url(database_url)
    try:
        return asyncio.run(_run(database_url, work, lock))
    except DBAPIError as error:
        raise SchemaError(f"{hidden(url)}: {error.orig}") from None
    except (CommandError, SQLAlchemyError, OSError) as error:
        raise SchemaError(f"{hidden(url)}: {str(error) or type(error).__name__}") from None


async def _run(database_url: str, work: Callable[[Connection], Result], lock: bool) -> Result:
    engine = open_engine(database_url, busy_timeout_s=LOCK_WAIT_S, command_timeout_s=None)
    try:
        async with (writing(engine) if lock else engine).begin() as connection:
            if lock and engine.dialect.name == "postgresql":
                await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
