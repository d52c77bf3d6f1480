"""Whether a database has this release's shape already, by one row; what changes it is loaded only where it has not.

Most starts find it as it must be, and what migrates takes 8 MB that would stay for as long as a process serves.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from sqlalchemy import column, select, table
from sqlalchemy.exc import SQLAlchemyError

import gateway
from gateway.ledger.engine import open_engine

VERSION_TABLE: Final = "fingerpost_schema"
_VERSION: Final = table(VERSION_TABLE, column("version_num")).c.version_num
MIGRATIONS: Final = Path(gateway.__file__).parents[1] / "migrations"


def head() -> str:
    """This release's revision: that of the last migration's file."""
    return max(file.name[1:5] for file in (MIGRATIONS / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def upgraded(database_url: str) -> str:
    """Bring the tables to this release's revision, which it gives. Blocks; raises as `schema.upgrade` does."""
    newest = head()
    if asyncio.run(_current(database_url)) == newest:
        return newest
    from gateway.ledger import schema

    return schema.upgrade(database_url).current or newest


async def _current(database_url: str) -> str | None:
    """The database's revision; None where it can't be told, for whatever reason."""
    engine = open_engine(database_url)
    try:
        async with engine.connect() as connection:
            found = (await connection.execute(select(_VERSION))).scalars().all()
    except (SQLAlchemyError, OSError):
        return None
    finally:
        await engine.dispose()
    return str(found[0]) if len(found) == 1 else None
