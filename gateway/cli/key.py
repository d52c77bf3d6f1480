"""`fingerpost key`: virtual keys, straight in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from gateway.admission.grants import KeyRow, Role
from gateway.admission.stores import Stores
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.shown import shown_key
from gateway.cli.output import fail, print_fields, print_json, print_rows, print_updated
from gateway.cli.stores import (
    Days,
    Json,
    Metadata,
    Model,
    Policy,
    Tag,
    actor,
    given_terms,
    known,
    with_stores,
    with_tags,
)

app = typer.Typer(help="Virtual keys.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The key's public id.")]


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="What or whom the key is for.")],
    role: Annotated[Role, typer.Option(help="What it opens.")] = "application",
    team: Annotated[str | None, typer.Option(help="The team it belongs to, by id.")] = None,
    policy: Policy = None,
    model: Model = None,
    days: Days = None,
    tag: Tag = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Create a key; its secret is printed once and stored only as a hash."""
    terms = Terms(**given_terms(name, policy, model, days, metadata))
    terms = replace(terms, metadata=with_tags(terms.metadata, tag))
    names = known(policy)

    async def work(stores: Stores) -> tuple[KeyRow, str]:
        check_terms(terms, names)
        return await stores.keys.issue(
            name=terms.name,
            role=role,
            policy=terms.policy,
            expires_at=terms.expires_at,
            allowed_models=terms.allowed_models,
            metadata=terms.metadata,
            team_id=team or None,
            actor=actor(),
        )

    _print_new(*with_stores(work), as_json=as_json)


@app.command("list")
def list_keys(
    team: Annotated[str | None, typer.Option(help="Of this team only.")] = None, as_json: Json = False
) -> None:
    """All keys, without secrets."""
    rows = [shown_key(row) for row in with_stores(lambda stores: stores.keys.list(team))]
    columns = ("id", "name", "role", "team_id", "policy", "created_at", "expires_at", "revoked_at", "rotated_to")
    print_rows(columns, rows, as_json=as_json)


@app.command()
def update(
    key_id: Id,
    name: Annotated[str | None, typer.Option(help="What or whom the key is for.")] = None,
    team: Annotated[str | None, typer.Option(help="The team it belongs to, by id; '' for none.")] = None,
    policy: Policy = None,
    model: Model = None,
    days: Days = None,
    tag: Tag = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Change what is given; running gateways follow at once."""
    given: dict[str, Any] = given_terms(name, policy, model, days, metadata)
    if team is not None:
        given["team_id"] = team or None
    names = known(policy)

    def edit(old: KeyRow) -> KeyRow:
        new = replace(old, **given)
        new = replace(new, metadata=with_tags(new.metadata, tag))
        check_terms(new, names, old)
        return new

    row = with_stores(lambda stores: stores.keys.update(key_id, edit, actor=actor()))
    print_updated("key", key_id, row, shown_key, as_json=as_json)


@app.command()
def rotate(
    key_id: Id,
    overlap_hours: Annotated[float, typer.Option(min=0, help="How long the old key stays valid beside it.")] = 1.0,
    as_json: Json = False,
) -> None:
    """A new key in place of this one, with its terms, budgets and limits; the secret is printed once."""
    made = with_stores(lambda stores: stores.keys.rotate(key_id, overlap_hours * 3600, actor=actor()))
    if made is None:
        fail(f"there is no key '{key_id}'", code=1)
    _print_new(*made, as_json=as_json)


@app.command()
def revoke(key_id: Id) -> None:
    """Revoke a key; running gateways refuse it at once."""
    if not with_stores(lambda stores: stores.keys.revoke(key_id, actor=actor())):
        fail(f"there is no key '{key_id}', or it is revoked already", code=1)
    print(f"{key_id} is revoked")


def _print_new(row: KeyRow, token: str, *, as_json: bool) -> None:
    print_json({**shown_key(row), "key": token}) if as_json else print_fields({"id": row.id, "key": token})
