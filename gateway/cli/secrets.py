"""`fingerpost secrets`: providers' keys, encrypted in the database; a catalogue names one as `secret:NAME`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from getpass import getpass
from typing import Annotated

import typer

from gateway.cli.output import fail, print_json, print_table
from gateway.cli.stores import Json, actor, with_stores

app = typer.Typer(help="Providers' keys, encrypted in the database.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The name after 'secret:' in the catalogue.")]


@app.command("set")
def set_secret(name: Name) -> None:
    """Store a value, asked for at the terminal or read from standard input; never an argument, which others can see."""
    value = (getpass("value: ") if sys.stdin.isatty() else sys.stdin.read()).strip()
    with_stores(lambda stores: stores.secrets.set(name, value, actor=actor()))
    print(f"{name} is set")


@app.command("list")
def list_secrets(as_json: Json = False) -> None:
    """Names, and whether the present keys decrypt them."""
    rows = with_stores(lambda stores: stores.secrets.list())
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_table(
        ("name", "created_at", "rotated_at", "readable"),
        ((row.name, row.created_at, row.rotated_at, "yes" if row.readable else "no") for row in rows),
    )


@app.command()
def remove(name: Name) -> None:
    """Forget a secret; endpoints that need it are disabled."""
    if not with_stores(lambda stores: stores.secrets.remove(name, actor=actor())):
        fail(f"there is no secret '{name}'", code=1)
    print(f"{name} is removed")


@app.command()
def rotate() -> None:
    """Encrypt all anew with the first of FINGERPOST_SECRET_KEYS, so that the others can be dropped."""
    count = with_stores(lambda stores: stores.secrets.rotate(actor=actor()))
    print(f"{count} secrets are encrypted with the newest key")


@app.command()
def new_key() -> None:
    """Print a fresh key for FINGERPOST_SECRET_KEYS."""
    from gateway.admission import ciphers

    print(ciphers.new_key())
