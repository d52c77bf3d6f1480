"""`fingerpost org`: organisations, straight in the database."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.admission.rules import Scope
from gateway.cli.stores import Days, Json, Metadata, Model, Policy
from gateway.cli.tenants import create_tenant, list_tenants, revoke_tenant, update_tenant

app = typer.Typer(help="Organisations.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The organisation's id.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The organisation's name.")],
    policy: Policy = None,
    model: Model = None,
    days: Days = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Create an organisation, which teams can then belong to."""
    create_tenant(None, name, policy, model, days, metadata, as_json=as_json)


@app.command("list")
def list_organisations(as_json: Json = False) -> None:
    """All organisations, the revoked too."""
    list_tenants(Scope.ORGANISATION, None, as_json=as_json)


@app.command()
def update(
    organisation_id: Id,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    policy: Policy = None,
    model: Model = None,
    days: Days = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Change what is given; running gateways follow at once."""
    update_tenant(Scope.ORGANISATION, organisation_id, name, policy, model, days, metadata, as_json=as_json)


@app.command()
def revoke(organisation_id: Id) -> None:
    """Revoke an organisation with all keys of its teams; running gateways refuse them at once."""
    revoke_tenant(Scope.ORGANISATION, organisation_id)
