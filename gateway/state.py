"""The assembled gateway: what routes and the command line reach for; made in `gateway.build` alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.admission import GaugedAdmission
from gateway.admission.changes import ChangeFeed
from gateway.admission.estimates import Estimates
from gateway.admission.gauges import Gauges
from gateway.admission.keys import Keyring
from gateway.admission.stores import Stores
from gateway.admission.webhooks import Webhooks
from gateway.api.raw import RawRoute
from gateway.cache.cache import Cache
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.dispatch.shared_health import SharedHealth
from gateway.embedding import Embedding
from gateway.ledger.base import Ledger
from gateway.ledger.feedback import FeedbackStore
from gateway.ledger.response_store import ResponseStore
from gateway.lifecycle.dry_run.jobs import DryRuns
from gateway.lifecycle.learning import Lessons
from gateway.lifecycle.leaving import Leaving
from gateway.lifecycle.policy_desk import PolicyDesk
from gateway.lifecycle.policy_sources import PolicySources
from gateway.lifecycle.policy_store import PolicyStore
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.lifecycle.preparing import Preparing
from gateway.lifecycle.trials.service import Trials
from gateway.local import LocalModels
from gateway.metrics import Metrics
from gateway.pacing import Paces
from gateway.pipeline import Pipeline
from gateway.providers.base import Provider
from gateway.redis_link import RedisLink
from gateway.request_log import RequestLog
from gateway.settings import Settings
from gateway.tracing import Tracer
from gateway.ui.parts import Parts


@dataclass(slots=True)
class Gateway:
    """One process' gateway; `ready` is true between `lifecycle.run.start` and `close`."""

    settings: Settings
    engine: AsyncEngine
    fleet: Fleet
    policies: PolicyStore
    policy_sources: PolicySources
    policy_versions: PolicyVersions
    policy_desk: PolicyDesk
    preparing: Preparing
    dry_runs: DryRuns
    health: Health
    trials: Trials
    stores: Stores
    keyring: Keyring
    changes: ChangeFeed
    link: RedisLink | None
    gauges: Gauges
    admission: GaugedAdmission
    webhooks: Webhooks
    estimates: Estimates
    shared_health: SharedHealth | None
    ledger: Ledger
    responses: ResponseStore
    feedback: FeedbackStore
    metrics: Metrics
    lines: RequestLog | None
    tracer: Tracer | None
    pipeline: Pipeline
    cache: Cache
    console: Parts
    learning: Lessons
    embedding: Embedding
    paces: Paces
    providers: Mapping[str, Provider]
    local: LocalModels
    leaving: Leaving
    raw_routes: dict[str, RawRoute]
    ready: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
