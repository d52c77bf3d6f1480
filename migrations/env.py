"""What Alembic runs for every command: bind the connection that it was handed to our metadata.

The gateway hands over a connection inside a locked transaction; a developer's `alembic` command names its
database with `-x url=...`.
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from gateway.ledger.engine import open_engine, writing
from gateway.ledger.every_table import metadata
from gateway.ledger.versions import OPTIONS


def run(connection: Connection) -> None:
    """Run the asked-for migrations in the connection's transaction."""
    context.configure(connection=connection, target_metadata=metadata, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


async def _run_on(database_url: str) -> None:
    engine = open_engine(database_url)
    async with writing(engine).begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def main() -> None:
    """Take the handed connection, or open the one that `-x url=` names."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        run(connection)
        return
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("name the database: alembic -x url=sqlite:///path/to/file ... (or use: fingerpost db upgrade)")
    asyncio.run(_run_on(url))


main()
