"""`fingerpost team`: teams of organisations, straight in the database."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.admission.rules import Scope
from gateway.cli.stores import Days, Json, Metadata, Model, Policy
from gateway.cli.tenants import add_changes, create_tenant, list_tenants

app = typer.Typer(help="Teams.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The team's name.")],
    org: Annotated[str, typer.Option(help="The organisation it belongs to, by id.")],
    policy: Policy = None,
    model: Model = None,
    days: Days = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Create a team, which keys can then belong to."""
    create_tenant(org, name, policy, model, days, metadata, as_json=as_json)


@app.command("list")
def list_teams(
    org: Annotated[str | None, typer.Option(help="Of this organisation only.")] = None, as_json: Json = False
) -> None:
    """All teams, the revoked too."""
    list_tenants(Scope.TEAM, org, as_json=as_json)


add_changes(app, Scope.TEAM, "Revoke a team with all its keys; running gateways refuse them at once.")
