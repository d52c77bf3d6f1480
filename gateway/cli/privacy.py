"""`fingerpost privacy`: forget what people have said."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.cache.base import Wanted
from gateway.cache.forgetting import Told, named
from gateway.cli.database import existing_database
from gateway.cli.output import fail, print_fields, print_json, settings_or_fail
from gateway.cli.stores import actor
from gateway.ledger import privacy
from gateway.ledger.acts import CACHE, Change, acting
from gateway.ledger.engine import open_engine
from gateway.settings import Settings

app = typer.Typer(help="Prompts, answers and the people behind them.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Result = TypeVar("Result")


@app.callback()
def _group() -> None:
    """Prompts, answers and the people behind them."""


@app.command()
def erase(
    user: Annotated[str, typer.Option(help="The end user, as requests named it in `user`.")],
    as_json: Json = False,
) -> None:
    """Erase texts, embeddings and stored conversations of one end user; token counts and costs stay, without a name."""
    if not user:
        fail("--user must not be empty")
    settings = settings_or_fail()
    erased = _with_engine(settings, lambda engine: _erase(engine, user))
    fields: dict[str, Any] = asdict(erased)
    if as_json:
        print_json(fields)
    else:
        print_fields(fields)
    _warn_of_files(settings)


async def _erase(engine: AsyncEngine, user: str) -> privacy.Erased:
    """Erase, and write down that it was done; not of whom, since that log keeps everything for ever."""
    erased = await privacy.erase_user(engine, user)
    async with acting(engine, actor()) as act:
        cached = msgspec.json.encode(Told(wanted=Wanted(end_user=named(user)))).decode()
        await act.done("privacy.erase", "end user", asdict(erased), Change(CACHE, cached))
    return erased


def _warn_of_files(settings: Settings) -> None:
    """Rows that wait on disk for the database come later; the same command erases them then."""
    waiting = [path for path in (settings.data_dir / "ledger").rglob("*.jsonl") if path.stat().st_size]
    if waiting:
        print(
            f"fingerpost: {len(waiting)} files of rows wait in {settings.data_dir / 'ledger'}; run this again once the "
            "database has taken them (rejected.jsonl stays: delete it by hand)",
            file=sys.stderr,
        )


def _with_engine(settings: Settings, work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    url = existing_database(settings)

    async def run() -> Result:
        engine = open_engine(url)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())
