"""`fingerpost key`: virtual keys, straight in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

from gateway.admission.key_store import KeyStore, RefusedKey, Role, check_new
from gateway.api.admin.keys import described
from gateway.build import catalogue_of
from gateway.cli.database import existing_database
from gateway.cli.output import fail, print_fields, print_json, print_table, settings_or_fail
from gateway.cli.policy import in_force
from gateway.ledger.engine import open_engine

app = typer.Typer(help="Virtual keys.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Result = TypeVar("Result")


def with_keys(work: Callable[[KeyStore], Awaitable[Result]]) -> Result:
    """Run a piece of work on the key store of the configured database."""

    url = existing_database(settings_or_fail())

    async def run() -> Result:
        engine = open_engine(url)
        try:
            return await work(KeyStore(engine))
        finally:
            await engine.dispose()

    return asyncio.run(run())


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="What or whom the key is for.")],
    role: Annotated[Role, typer.Option(help="What it opens.")] = "application",
    policy: Annotated[str | None, typer.Option(help="The only policy this key may use.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model this key may use; repeat for more.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36500, help="Days until it expires.")] = None,
    as_json: Json = False,
) -> None:
    """Create a key; its secret is printed once and stored only as a hash."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    _check(name, policy, model, expires_at)
    row, token = with_keys(
        lambda keys: keys.issue(name=name, role=role, policy=policy, allowed_models=model, expires_at=expires_at)
    )
    fields: dict[str, Any] = {**described(row), "key": token}
    if as_json:
        print_json(fields)
    else:
        print_fields({"id": row.id, "key": token})


def _check(name: str, policy: str | None, models: list[str] | None, expires_at: datetime | None) -> None:
    policies = in_force() if policy is not None else {}
    known = {card.id for card in catalogue_of(settings_or_fail()).model}
    try:
        check_new(name, policy, models, expires_at, policies=policies, models=known)
    except RefusedKey as error:
        fail(str(error))


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """All keys, without secrets."""
    rows = [described(row) for row in with_keys(lambda keys: keys.list())]
    if as_json:
        print_json(rows)
        return
    columns = ("id", "name", "role", "policy", "created_at", "expires_at", "revoked_at")
    print_table(columns, ([row[column] for column in columns] for row in rows))


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's public id.")]) -> None:
    """Revoke a key; running gateways notice within seconds."""
    if not with_keys(lambda keys: keys.revoke(key_id)):
        fail(f"there is no key '{key_id}', or it is revoked already", code=1)
    print(f"{key_id} is revoked")
