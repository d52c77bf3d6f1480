"""`fingerpost audit`: what admins did, and whether the record of it is whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from gateway.admission.terms import moment
from gateway.api.admin.shown import shown_entry
from gateway.cli.output import fail, print_fields, print_json, print_table
from gateway.cli.stores import Json, with_stores

app = typer.Typer(help="The audit log of admin acts.", no_args_is_help=True)


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 50,
    before_id: Annotated[int | None, typer.Option(help="Older than this one.")] = None,
    as_json: Json = False,
) -> None:
    """The newest acts first."""
    entries = with_stores(lambda stores: stores.audit.list(limit, before_id))
    if as_json:
        print_json([shown_entry(entry) for entry in entries])
        return
    print_table(
        ("id", "at", "actor", "action", "subject", "detail"),
        ((one.id, moment(one.at), one.actor, one.action, one.subject, one.detail) for one in entries),
    )


@app.command()
def verify(
    noted: Annotated[str | None, typer.Option(help="A head that was printed earlier: it must still be there.")] = None,
    as_json: Json = False,
) -> None:
    """Check the whole chain of hashes; exits 1 at the first row that is broken."""
    verdict = with_stores(lambda stores: stores.audit.verify(noted))
    fields = {"sound": verdict.sound, **asdict(verdict)}
    print_json(fields) if as_json else print_fields({"rows": verdict.rows, "head": verdict.head_sha256})
    if not verdict.sound:
        where = "" if verdict.broken_id is None else f"row {verdict.broken_id}: "
        fail(f"{where}{verdict.reason}", code=1)
