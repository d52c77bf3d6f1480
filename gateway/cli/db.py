"""`fingerpost db`: bring the database to this version's schema, or look whether it is."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from gateway.cli.database import database_file, existing_database
from gateway.cli.output import fail, print_fields, print_json, settings_or_fail
from gateway.cli.serve import prepare_folder
from gateway.ledger.revision import upgraded

app = typer.Typer(help="The SQL database.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def upgrade() -> None:
    """Create or migrate the tables; safe to run twice and from several processes."""
    settings = settings_or_fail()
    path = database_file(settings)
    if path is not None:
        prepare_folder(path.parent)
    print(f"database is at {upgraded(settings.sql_url)}")


@app.command()
def rollup(
    look: Annotated[bool, typer.Option("--check", help="Compare only; exits 1 where they differ.")] = False,
) -> None:
    """Count the request log anew for usage charts; needed after processes of an older version wrote to it."""
    from gateway.cli.rolling_up import compare, recount

    url = existing_database(settings_or_fail())
    if not look:
        print(f"counted {asyncio.run(recount(url))} requests")
        return
    wrong = asyncio.run(compare(url))
    for one in wrong:
        print(f"{one.date}  {one.table}: {one.cells} cells are not what the log says")
    if wrong:
        fail("the sums differ from the log; run: fingerpost db rollup", code=1)
    print("the sums are what the log says")


@app.command()
def check(as_json: Json = False) -> None:
    """Compare the database with this version's schema; exits 1 where they differ."""
    from gateway.ledger import schema

    state = schema.check(existing_database(settings_or_fail()))
    fields = {"current": state.current, "head": state.head, "problem": state.problem}
    if as_json:
        print_json(fields)
    else:
        print_fields(fields)
    if state.problem:
        fail(f"{state.problem}", code=1)
