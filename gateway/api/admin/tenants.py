"""What the routes of organisations and of teams do alike."""

from __future__ import annotations

from dataclasses import replace

from gateway.admission.grants import TenantRow
from gateway.admission.tenant_store import TenantScope
from gateway.admission.terms import check_terms
from gateway.api.admin.access import known_of
from gateway.api.admin.bodies import TermsBody, given_fields, refusals
from gateway.errors import NotFound
from gateway.state import Gateway


async def change_tenant(scope: TenantScope, tenant_id: str, body: TermsBody, gateway: Gateway, actor: str) -> TenantRow:
    """Store what the body gives; 404 where there is no such tenant, 400 with the field at fault."""
    given = given_fields(body)

    def edit(old: TenantRow) -> TenantRow:
        new = replace(old, **given)
        check_terms(new, known_of(gateway), old)
        return new

    with refusals():
        row = found(await gateway.stores.tenants.update(scope, tenant_id, edit, actor=actor), scope, tenant_id)
    await gateway.changes.poll()
    return row


async def revoke_tenant(scope: TenantScope, tenant_id: str, gateway: Gateway, actor: str) -> None:
    """Revoke with all keys below, on all workers at once; or 404."""
    if not await gateway.stores.tenants.revoke(scope, tenant_id, actor=actor):
        raise NotFound(f"There is no {scope} '{tenant_id[:80]}', or it is revoked already.")
    await gateway.changes.poll()


def found(row: TenantRow | None, scope: TenantScope, tenant_id: str) -> TenantRow:
    """The row, or 404."""
    if row is None:
        raise NotFound(f"There is no {scope} '{tenant_id[:80]}'.")
    return row
