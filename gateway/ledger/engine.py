"""From a database URL to an async SQLAlchemy engine: spelling of URLs, SQLite's pragmas, drivers, time-outs.

Knows no table. Messages and logs never carry the URL's password or a statement's parameters.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_S: Final = 5
CONNECT_TIMEOUT_S: Final = 5
COMMAND_TIMEOUT_S: Final = 30

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_size_limit=67108864",
)
# libpq spellings that managed PostgreSQL services put into their URLs and asyncpg does not know.
_LIBPQ: Final = {"sslmode": "ssl"}
_UNUSED: Final = frozenset({"application_name", "channel_binding", "connect_timeout", "gssencmode"})
_OURS: Final = frozenset({"prepared_statement_cache_size"})  # SQLAlchemy's, needed behind some poolers


class DatabaseUrlError(ValueError):
    """A database URL that cannot be used; the message says how to mend it and hides the password."""


def normalise_url(database_url: str) -> URL:
    """The URL with the async driver that serves it.

    `sqlite:///path` gets aiosqlite; `postgres://` and `postgresql://` get asyncpg. Raises `DatabaseUrlError` for
    anything else, for an in-memory SQLite database, and for a missing PostgreSQL driver.
    """
    try:
        url = make_url(database_url.strip())
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(
            "the database URL cannot be parsed; expected sqlite:///path/to/file or "
            "postgresql://user:password@host/name (percent-encode special characters in the password)"
        ) from None
    backend = url.drivername.partition("+")[0]
    if backend == "sqlite":
        return _sqlite_url(url)
    if backend in ("postgres", "postgresql"):
        return _postgres_url(url)
    raise DatabaseUrlError(f"databases of kind {backend!r} are not supported; use sqlite:///... or postgresql://...")


def hidden(url: URL) -> str:
    """The URL as it may be shown."""
    return url.render_as_string(hide_password=True)


def open_engine(
    database_url: str, busy_timeout_s: int = BUSY_TIMEOUT_S, command_timeout_s: float | None = COMMAND_TIMEOUT_S
) -> AsyncEngine:
    """An engine for the URL; connects to nothing yet. The folder of an SQLite file is made at the first connection.

    `busy_timeout_s` is how long SQLite waits for another writer's lock, `command_timeout_s` how long PostgreSQL may
    take over a statement (None: for ever). Raises `DatabaseUrlError`. The caller disposes of the engine.
    """
    url = normalise_url(database_url)
    options = _options(url, command_timeout_s)
    engine = create_async_engine(url, hide_parameters=True, pool_timeout=CONNECT_TIMEOUT_S, **options)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine.sync_engine, busy_timeout_s)
    return engine


def blocking_twin(engine: AsyncEngine, busy_timeout_s: float) -> Engine:
    """The same SQLite file through the blocking driver, for a thread that carries out whole transactions.

    (The async one hands each part of each statement to its thread and back, which costs ten times the work itself.)
    The caller disposes of it.
    """
    twin = create_engine(engine.url.set(drivername="sqlite+pysqlite"), hide_parameters=True)
    _prepare_sqlite(twin, busy_timeout_s)
    return twin


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine and pool for transactions that write: SQLite takes its write lock at BEGIN, where it can wait.

    (A transaction that first reads and then writes fails at once instead when another process wrote in between.)
    """
    return engine.execution_options(writing=True)


def _sqlite_url(url: URL) -> URL:
    path = url.database or ""
    if path in ("", ":memory:") or "mode=memory" in path or url.query.get("mode") == "memory":
        raise DatabaseUrlError("an in-memory SQLite database cannot be shared; give a file: sqlite:///path/to/file")
    return url.set(drivername="sqlite+aiosqlite")


def _postgres_url(url: URL) -> URL:
    if find_spec("asyncpg") is None:
        raise DatabaseUrlError("PostgreSQL needs the asyncpg driver: pip install 'fingerpost[postgres]'")
    unknown = (
        set(url.query) - set(signature(import_module("asyncpg").connect).parameters) - set(_LIBPQ) - _UNUSED - _OURS
    )
    if unknown:
        raise DatabaseUrlError(f"the database URL has options that are not known: {', '.join(sorted(unknown))}")
    query = {_LIBPQ.get(key, key): value for key, value in url.query.items() if key not in _UNUSED}
    return url.set(drivername="postgresql+asyncpg", query=query)


def sqlite_file(url: URL) -> Path | None:
    """The file that an SQLite URL names; None for other databases."""
    if url.get_backend_name() != "sqlite":
        return None
    return Path(str(url.database).removeprefix("file:").partition("?")[0])


def _options(url: URL, command_timeout_s: float | None) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {}
    connect_args = {
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": command_timeout_s,
        "server_settings": {"application_name": "fingerpost"},
    }
    return {"connect_args": connect_args, "pool_pre_ping": True}


def _prepare_sqlite(sync: Engine, busy_timeout_s: float) -> None:
    """Take transaction control from the driver, whose own way commits before DDL and never begins for SELECT."""
    path = sqlite_file(sync.url)

    @event.listens_for(sync, "do_connect")
    def _before_connect(*_: object) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(sync, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"PRAGMA busy_timeout={int(busy_timeout_s * 1000)}", *_PRAGMAS):
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(sync, "begin")
    def _on_begin(connection: Connection) -> None:
        lock = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if lock else "BEGIN")
