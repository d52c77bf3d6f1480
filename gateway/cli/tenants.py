"""What `fingerpost org` and `fingerpost team` do alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.admission.grants import TenantRow
from gateway.admission.rules import Scope
from gateway.admission.stores import Stores
from gateway.admission.tenant_store import TenantScope
from gateway.admission.terms import Terms, check_terms
from gateway.api.admin.shown import shown_tenant
from gateway.cli.output import fail, print_fields, print_json, print_table
from gateway.cli.stores import actor, given_terms, known, with_stores


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
    if as_json:
        print_json(rows)
        return
    above = ("organisation_id",) if scope is Scope.TEAM else ()
    columns = ("id", *above, "name", "policy", "created_at", "expires_at", "revoked_at")
    print_table(columns, ([row[column] for column in columns] for row in rows))


def update_tenant(
    scope: TenantScope,
    tenant_id: str,
    name: str | None,
    policy: str | None,
    models: Sequence[str] | None,
    days: int | None,
    metadata: str | None,
    *,
    as_json: bool,
) -> None:
    """Change what is given; prints what came of it."""
    given, names = given_terms(name, policy, models, days, metadata), known(policy)

    def edit(old: TenantRow) -> TenantRow:
        new = replace(old, **given)
        check_terms(new, names, old)
        return new

    row = with_stores(lambda stores: stores.tenants.update(scope, tenant_id, edit, actor=actor()))
    if row is None:
        fail(f"there is no {scope} '{tenant_id}'", code=1)
    print_json(shown_tenant(row)) if as_json else print(f"{tenant_id} is updated")


def revoke_tenant(scope: TenantScope, tenant_id: str) -> None:
    """Revoke, or exit 1."""
    if not with_stores(lambda stores: stores.tenants.revoke(scope, tenant_id, actor=actor())):
        fail(f"there is no {scope} '{tenant_id}', or it is revoked already", code=1)
    print(f"{tenant_id} is revoked")
