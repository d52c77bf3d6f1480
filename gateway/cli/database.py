"""Where a command finds the database: it must be there already, unless the command is one that makes it."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.output import fail
from gateway.ledger.engine import hidden, normalise_url, sqlite_file
from gateway.settings import Settings


def database_file(settings: Settings) -> Path | None:
    """The file of an SQLite database; None for a database server."""
    return sqlite_file(normalise_url(settings.sql_url))


def existing_database(settings: Settings) -> str:
    """The database's URL; a clear line where it is a file that does not exist, which opening it would create."""
    path = database_file(settings)
    if path is not None and not path.exists():
        fail(
            f"no Fingerpost database at {path}: start the gateway once, or set FINGERPOST_DATA_DIR "
            "(or FINGERPOST_DATABASE_URL)",
            code=1,
        )
    return settings.sql_url


def shown(settings: Settings) -> str:
    """The database as it may be printed: a path, or a URL without its password."""
    path = database_file(settings)
    return str(path) if path is not None else hidden(normalise_url(settings.sql_url))
