"""What `fingerpost org` and `fingerpost team` do alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from gateway.admission.grants import TenantRow
from gateway.admission.rules import Scope
from gateway.admission.stores import Stores
from gateway.admission.tenant_store import TenantScope
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.shown import shown_tenant
from gateway.cli.output import fail, print_fields, print_json, print_rows, print_updated
from gateway.cli.stores import Days, Json, Metadata, Model, Policy, actor, given_terms, known, with_stores


def create_tenant(
    organisation_id: str | None,
    name: str,
    policy: str | None,
    models: Sequence[str] | None,
    days: int | None,
    metadata: str | None,
    *,
    as_json: bool,
) -> None:
    """A team of an organisation, or without one an organisation; prints it."""
    terms = Terms(**given_terms(name, policy, models, days, metadata))
    names = known(policy)

    async def work(stores: Stores) -> TenantRow:
        check_terms(terms, names)
        if organisation_id is None:
            return await stores.tenants.create_organisation(terms, actor=actor())
        return await stores.tenants.create_team(organisation_id, terms, actor=actor())

    row = with_stores(work)
    print_json(shown_tenant(row)) if as_json else print_fields({"id": row.id, "name": row.name})


def list_tenants(scope: TenantScope, organisation_id: str | None, *, as_json: bool) -> None:
    """Print all of a kind."""
    rows = [shown_tenant(row) for row in with_stores(lambda stores: stores.tenants.list(scope, organisation_id))]
    above = ("organisation_id",) if scope is Scope.TEAM else ()
    columns = ("id", *above, "name", "policy", "created_at", "expires_at", "revoked_at")
    print_rows(columns, rows, as_json=as_json)


def add_changes(app: typer.Typer, scope: TenantScope, help_of_revoke: str) -> None:
    """Add the commands `update` and `revoke` of a kind of tenants."""
    which: Any = typer.Argument(help=f"The {scope}'s id.", metavar=f"{scope}_id")

    @app.command()
    def update(
        tenant_id: str = which,
        name: Annotated[str | None, typer.Option(help="Another name.")] = None,
        policy: Policy = None,
        model: Model = None,
        days: Days = None,
        metadata: Metadata = None,
        as_json: Json = False,
    ) -> None:
        """Change what is given; running gateways follow at once."""
        given, names = given_terms(name, policy, model, days, metadata), known(policy)

        def edit(old: TenantRow) -> TenantRow:
            new = replace(old, **given)
            check_terms(new, names, old)
            return new

        row = with_stores(lambda stores: stores.tenants.update(scope, tenant_id, edit, actor=actor()))
        print_updated(scope, tenant_id, row, shown_tenant, as_json=as_json)

    @app.command(help=help_of_revoke)
    def revoke(tenant_id: str = which) -> None:
        if not with_stores(lambda stores: stores.tenants.revoke(scope, tenant_id, actor=actor())):
            fail(f"there is no {scope} '{tenant_id}', or it is revoked already", code=1)
        print(f"{tenant_id} is revoked")
