"""What admins write, table by table, over one engine: the same for a gateway and for commands without one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.key_store import KeyStore
from gateway.admission.rule_store import RuleStore
from gateway.admission.secrets import SecretStore, ciphers_of
from gateway.admission.tenant_store import TenantStore
from gateway.ledger.audit import AuditLog


@dataclass(frozen=True, slots=True)
class Stores:
    """One of each."""

    keys: KeyStore
    tenants: TenantStore
    rules: RuleStore
    secrets: SecretStore
    audit: AuditLog


def open_stores(engine: AsyncEngine, secret_keys: str = "") -> Stores:
    """Stores over an engine; connects to nothing yet. Raises `SecretKeyError` for keys that are none."""
    secrets = SecretStore(engine, ciphers_of(secret_keys))
    return Stores(KeyStore(engine), TenantStore(engine), RuleStore(engine), secrets, AuditLog(engine))
