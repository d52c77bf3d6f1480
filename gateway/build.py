"""The composition root: the only place where parts are constructed. Tests pass fakes to the same function."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

from gateway.admission.key_store import KeyStore
from gateway.admission.keys import Keyring
from gateway.api.chat import ChatRoute
from gateway.api.embeddings import EmbeddingsRoute
from gateway.api.raw import RawRoute
from gateway.api.route import ExplainRoute
from gateway.dispatch.dispatch import Dispatcher
from gateway.dispatch.fleet import Fleet, gather
from gateway.dispatch.health import Health
from gateway.embedding import Embedding
from gateway.ledger.base import Ledger
from gateway.ledger.engine import open_engine
from gateway.ledger.writer import LedgerWriter
from gateway.lifecycle.policy_sources import PolicySources
from gateway.lifecycle.policy_store import PolicyStore
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.local import LocalModels
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.providers.find import Supplies, providers_of
from gateway.providers.h1_client import H1Client
from gateway.providers.http import HttpClient
from gateway.settings import Settings, environment_value, metrics_folder
from gateway.state import Gateway
from policies.catalogue import Catalogue
from policies.load import load_catalogue, shipped_catalogue_path


def build(
    settings: Settings,
    *,
    http: HttpClient | None = None,
    ledger: Ledger | None = None,
    local: LocalModels | None = None,
    environment: Callable[[str], str | None] = environment_value,
    rng: random.Random | None = None,
) -> Gateway:
    """Construct a gateway from settings; nothing runs yet. Raises `PolicyError` for a wrong catalogue."""
    engine = open_engine(settings.sql_url)
    local = local or LocalModels(settings)
    providers = providers_of(Supplies(http or H1Client(), local.load_engine, local.embedder, settings.max_reply_bytes))
    fleet = gather(catalogue_of(settings), providers, environment, local.fault)
    versions = PolicyVersions(engine)
    sources = PolicySources(settings, versions)
    store = PolicyStore(fleet, sources.from_all)
    health = Health(monotonic)
    metrics = Metrics(metrics_folder())
    ledger = ledger or LedgerWriter(engine, settings.data_dir / "ledger", spool_max_bytes=settings.spool_max_bytes)
    keys = KeyStore(engine)
    keyring = Keyring(keys)
    pipeline = Pipeline(
        policies=store,
        fleet=fleet,
        embedding=Embedding(local.embedder, settings.embed_timeout_s),
        dispatcher=Dispatcher(fleet.targets, health),
        health=health,
        ledger=ledger,
        metrics=metrics,
        rng=rng or random.Random(),
    )
    return Gateway(
        settings=settings,
        engine=engine,
        fleet=fleet,
        policies=store,
        policy_sources=sources,
        policy_versions=versions,
        keys=keys,
        keyring=keyring,
        ledger=ledger,
        metrics=metrics,
        pipeline=pipeline,
        providers=providers,
        local=local,
        raw_routes=_raw_routes(settings, pipeline, fleet, health, keyring, ledger, metrics),
    )


def _raw_routes(
    settings: Settings,
    pipeline: Pipeline,
    fleet: Fleet,
    health: Health,
    keyring: Keyring,
    ledger: Ledger,
    metrics: Metrics,
) -> dict[str, RawRoute]:
    floor = {
        "keyring": keyring,
        "ledger": ledger,
        "metrics": metrics,
        "max_body": settings.max_body_bytes,
        "body_timeout_s": settings.body_timeout_s,
    }
    return {
        "/v1/chat/completions": ChatRoute(pipeline, **floor),
        "/v1/route": ExplainRoute(pipeline, **floor),
        "/v1/embeddings": EmbeddingsRoute(fleet, health, **floor),
    }


def catalogue_of(settings: Settings) -> Catalogue:
    """The shipped catalogue with the operator's file merged over it; `PolicyError` where that is wrong."""
    return load_catalogue(shipped_catalogue_path(), over=settings.catalogue)
