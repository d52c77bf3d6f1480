"""`fingerpost org`: organisations, straight in the database."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.admission.rules import Scope
from gateway.cli.stores import Days, Json, Metadata, Model, Policy
from gateway.cli.tenants import add_changes, create_tenant, list_tenants

app = typer.Typer(help="Organisations.", no_args_is_help=True)


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


add_changes(
    app, Scope.ORGANISATION, "Revoke an organisation with all keys of its teams; running gateways refuse them at once."
)
