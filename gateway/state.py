"""The assembled gateway: what routes and the command line reach for; made in `gateway.build` alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.key_store import KeyStore
from gateway.admission.keys import Keyring
from gateway.api.raw import RawRoute
from gateway.dispatch.fleet import Fleet
from gateway.ledger.base import Ledger
from gateway.lifecycle.policy_sources import PolicySources
from gateway.lifecycle.policy_store import PolicyStore
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.local import LocalModels
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.providers.base import Provider
from gateway.settings import Settings


@dataclass(slots=True)
class Gateway:
    """One process' gateway; `ready` is true between `lifecycle.run.start` and `close`."""

    settings: Settings
    engine: AsyncEngine
    fleet: Fleet
    policies: PolicyStore
    policy_sources: PolicySources
    policy_versions: PolicyVersions
    keys: KeyStore
    keyring: Keyring
    ledger: Ledger
    metrics: Metrics
    pipeline: Pipeline
    providers: Mapping[str, Provider]
    local: LocalModels
    raw_routes: dict[str, RawRoute]
    ready: bool = False
    embedding_ready: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
