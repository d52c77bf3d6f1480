"""The composition root: the only place where parts are constructed. Tests pass fakes to the same function."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.admission import GaugedAdmission
from gateway.admission.changes import ChangeFeed
from gateway.admission.estimates import Estimates
from gateway.admission.gauges import Gauges
from gateway.admission.keys import Keyring
from gateway.admission.memory_gauges import MemoryGauges
from gateway.admission.redis_gauges import RedisGauges
from gateway.admission.rulebook import Rulebook
from gateway.admission.spend_book import SpendBook
from gateway.admission.sql_gauges import SqlGauges
from gateway.admission.stores import Stores, open_stores
from gateway.admission.upkeep import Rounds
from gateway.admission.webhooks import Webhooks
from gateway.api.chat import ChatRoute
from gateway.api.completions import CompletionsRoute
from gateway.api.embeddings import EmbeddingsRoute
from gateway.api.messages import CountTokensRoute, MessagesRoute
from gateway.api.raw import RawRoute
from gateway.api.rerank import RerankRoute
from gateway.api.responses import ResponsesRoute
from gateway.api.route import ExplainRoute
from gateway.cache.adapting import Adapting
from gateway.cache.asking import Asking
from gateway.cache.cache import Cache
from gateway.cache.checks import Checks
from gateway.cache.config import in_use
from gateway.cache.funds import Funds
from gateway.cache.identity import Sharing
from gateway.cache.memory_store import MemoryStore
from gateway.cache.redis_store import RedisStore
from gateway.cache.sealed import form_of
from gateway.cache.together import Together
from gateway.cache.topics import likeness
from gateway.cache.trust import TrustBook
from gateway.delivery import Delivery
from gateway.dispatch.breaker import State
from gateway.dispatch.dispatch import Dispatcher
from gateway.dispatch.fleet import Fleet, gather
from gateway.dispatch.health import Health
from gateway.dispatch.retries import Retries, RetryBudget
from gateway.dispatch.shared_health import RedisSharedState, SharedHealth
from gateway.embedding import Embedding
from gateway.ledger.base import Ledger
from gateway.ledger.cache_evidence import EvidenceStore
from gateway.ledger.engine import open_engine
from gateway.ledger.feedback import FeedbackStore
from gateway.ledger.response_store import KEPT_DAYS, ResponseStore
from gateway.ledger.writer import LedgerWriter
from gateway.lifecycle.bandit_store import BanditStore
from gateway.lifecycle.dry_run.jobs import DryRuns
from gateway.lifecycle.dry_run.store import ReportStore
from gateway.lifecycle.learning import Lessons
from gateway.lifecycle.leaving import Leaving
from gateway.lifecycle.news import News
from gateway.lifecycle.policy_desk import PolicyDesk
from gateway.lifecycle.policy_sources import PolicySources
from gateway.lifecycle.policy_store import Artifacts, PolicyStore
from gateway.lifecycle.policy_versions import PolicyVersions
from gateway.lifecycle.preparing import Preparing
from gateway.lifecycle.purse import Purse
from gateway.lifecycle.trials.book import TrialBook
from gateway.lifecycle.trials.desk import TrialDesk
from gateway.lifecycle.trials.holding import EvidenceBook
from gateway.lifecycle.trials.reading import TrialReader
from gateway.lifecycle.trials.reports import TrialReports
from gateway.lifecycle.trials.service import Trials
from gateway.lifecycle.trials.shadows import Shadows
from gateway.lifecycle.trials.store import TrialStore
from gateway.lifecycle.trials.watching import TrialWatch
from gateway.local import LocalModels
from gateway.meaning import Meanings
from gateway.metrics import Metrics
from gateway.noting import charged
from gateway.observe import Observer
from gateway.outbound import OutboundGuard
from gateway.pacing import Paces
from gateway.pipeline import Pipeline
from gateway.posting import Poster
from gateway.providers.base import Provider
from gateway.providers.find import Supplies, providers_of
from gateway.providers.h1_client import H1Client
from gateway.providers.http import HttpClient
from gateway.redis_link import RedisLink
from gateway.request_log import RequestLog
from gateway.settings import Settings, environment_value, metrics_folder
from gateway.state import Gateway
from gateway.tracing import Tracer
from gateway.ui.oidc import Oidc
from gateway.ui.parts import Parts
from gateway.ui.rendering import Rendering
from gateway.ui.sessions import Lifetime, SessionStore, key_roles
from gateway.ui.throttle import Throttle
from policies.catalogue import Catalogue
from policies.load import load_catalogue, shipped_catalogue_path


@dataclass(frozen=True, slots=True)
class Ground:
    """What everything else stands on: the outside world of one process, and what is known of it."""

    settings: Settings
    environment: Callable[[str], str | None]
    engine: AsyncEngine
    stores: Stores
    http: HttpClient
    local: LocalModels
    providers: Mapping[str, Provider]
    fleet: Fleet
    health: Health
    link: RedisLink | None
    gauges: Gauges
    ledger: Ledger


def build(
    settings: Settings,
    *,
    http: HttpClient | None = None,
    ledger: Ledger | None = None,
    local: LocalModels | None = None,
    gauges: Gauges | None = None,
    environment: Callable[[str], str | None] = environment_value,
    rng: random.Random | None = None,
) -> Gateway:
    """Construct a gateway from settings; nothing runs yet. Raises `PolicyError` for a wrong catalogue."""
    engine = open_engine(settings.sql_url)
    stores = open_stores(engine, settings.secret_keys.get_secret_value() if settings.secret_keys else "")
    http = http or H1Client(guard=OutboundGuard.from_text(settings.private_networks))
    local = local or LocalModels(settings)
    providers = providers_of(Supplies(http, local.load_engine, local.embedder, settings.max_reply_bytes))
    link = RedisLink(settings.redis_url, settings.redis_timeout_s) if settings.redis_url else None
    ground = Ground(
        settings=settings,
        environment=environment,
        engine=engine,
        stores=stores,
        http=http,
        local=local,
        providers=providers,
        fleet=gather(catalogue_of(settings), providers, environment, local.fault, stores.secrets.value),
        health=Health(monotonic),
        link=link,
        gauges=gauges or _gauges(settings, engine, link),
        ledger=ledger or LedgerWriter(engine, settings.data_dir / "ledger", spool_max_bytes=settings.spool_max_bytes),
    )
    return _upon(ground, rng or random.Random())


def _upon(ground: Ground, rng: random.Random) -> Gateway:
    settings, engine, stores, fleet = ground.settings, ground.engine, ground.stores, ground.fleet
    sources = PolicySources(settings, versions := PolicyVersions(engine))
    embedding = Embedding(ground.local.embedder, settings.embed_timeout_s)
    paces, cache = Paces(ground.gauges, 1 / settings.workers), _cache(ground, embedding)
    policies = PolicyStore(fleet, sources.from_all, Artifacts((settings.artifact_folder,), lambda: embedding.id))
    preparing = Preparing(policies, ground.local.embedder)
    desk = PolicyDesk(policies, versions, fleet, preparing)
    trials = _trials(ground, policies, versions, desk, preparing)
    keyring, rulebook, purse = Keyring(stores.keys), Rulebook(stores.rules), Purse(engine)
    webhooks = Webhooks(Poster(ground.http).json, ground.gauges.levels)
    admission, estimates = _admission(ground, rulebook, webhooks), Estimates()
    metrics, tracer, lines = _metrics(ground.health), _tracer(ground), _lines(settings)
    observer, meanings = Observer(metrics, lines, tracer), Meanings(policies, fleet)
    delivery = Delivery(health=ground.health, estimates=estimates, ledger=ground.ledger, observer=observer)
    cache.checks = _checks(cache, embedding, Funds(paces, rulebook, ground.gauges), delivery)
    responses = ResponseStore(engine, kept_days=min(KEPT_DAYS, settings.prompt_retention_days or KEPT_DAYS))
    line = Line(meanings, embedding, admission, estimates, delivery, paces, purse, cache, trials.book)
    pipeline = _pipeline(ground, line, rng)
    news = _news(ground, keyring, rulebook, policies, cache, trials.book)
    return Gateway(
        settings=settings,
        engine=engine,
        fleet=fleet,
        policies=policies,
        policy_sources=sources,
        policy_versions=versions,
        policy_desk=desk,
        preparing=preparing,
        dry_runs=DryRuns(ReportStore(engine)),
        health=ground.health,
        trials=trials,
        stores=stores,
        keyring=keyring,
        changes=ChangeFeed(engine, news.take_up),
        link=ground.link,
        gauges=ground.gauges,
        admission=admission,
        webhooks=webhooks,
        estimates=estimates,
        shared_health=_shared_health(ground),
        ledger=ground.ledger,
        responses=responses,
        feedback=FeedbackStore(engine),
        metrics=metrics,
        lines=lines,
        tracer=tracer,
        pipeline=pipeline,
        cache=cache,
        console=_console(ground),
        learning=Lessons(BanditStore(engine), purse, lambda: [*policies.all(), *trials.book.drafts()]),
        embedding=embedding,
        paces=paces,
        providers=ground.providers,
        local=ground.local,
        leaving=Leaving(settings.lame_duck_s),
        raw_routes=_raw_routes(ground, pipeline, meanings, admission, estimates, responses, keyring, observer),
    )


class Line(NamedTuple):
    """What a request's straight line is made of, beside what lies under it."""

    meanings: Meanings
    embedding: Embedding
    admission: GaugedAdmission
    estimates: Estimates
    delivery: Delivery
    paces: Paces
    purse: Purse
    cache: Cache
    trials: TrialBook


def _pipeline(ground: Ground, line: Line, rng: random.Random) -> Pipeline:
    retries = Retries(RetryBudget(monotonic), rng)
    return Pipeline(
        **line._asdict(),
        dispatcher=Dispatcher(ground.fleet.targets, ground.health, retries, rng),
        health=ground.health,
        rng=rng,
    )


def _news(
    ground: Ground, keyring: Keyring, rulebook: Rulebook, policies: PolicyStore, cache: Cache, trials: TrialBook
) -> News:
    secrets, fleet, providers = ground.stores.secrets, ground.fleet, ground.providers
    return News(keyring, rulebook, secrets, fleet, providers, policies, cache, ground.environment, trials)


def _trials(
    ground: Ground, policies: PolicyStore, versions: PolicyVersions, policy_desk: PolicyDesk, preparing: Preparing
) -> Trials:
    engine, shadows = ground.engine, Shadows(ground.ledger.put)
    store, reader, evidence = TrialStore(engine), TrialReader(engine), EvidenceBook(engine, uuid.uuid4().hex)
    book = TrialBook(store, versions, policies, preparing.one, shadows)
    desk = TrialDesk(store, reader, policies, policy_desk, versions)
    watch = TrialWatch(book, store, reader, evidence, desk)
    return Trials(book, desk, watch, shadows, TrialReports(engine, store, evidence))


def _raw_routes(
    ground: Ground,
    pipeline: Pipeline,
    meanings: Meanings,
    admission: GaugedAdmission,
    estimates: Estimates,
    responses: ResponseStore,
    keyring: Keyring,
    observer: Observer,
) -> dict[str, RawRoute]:
    floor: dict[str, Any] = {
        "keyring": keyring,
        "ledger": ground.ledger,
        "observer": observer,
        "max_body": ground.settings.max_body_bytes,
        "body_timeout_s": ground.settings.body_timeout_s,
    }
    named: dict[str, Any] = {
        "fleet": ground.fleet,
        "health": ground.health,
        "admission": admission,
        "estimates": estimates,
    }
    return {
        "/v1/chat/completions": ChatRoute(pipeline, **floor),
        "/v1/completions": CompletionsRoute(pipeline, **floor),
        "/v1/responses": ResponsesRoute(pipeline, responses, **floor),
        "/v1/messages": MessagesRoute(pipeline, **floor),
        "/v1/messages/count_tokens": CountTokensRoute(meanings, **floor),
        "/v1/route": ExplainRoute(pipeline, **floor),
        "/v1/embeddings": EmbeddingsRoute(**named, **floor),
        "/v1/rerank": RerankRoute(**named, **floor),
    }


def _admission(ground: Ground, rulebook: Rulebook, webhooks: Webhooks) -> GaugedAdmission:
    return GaugedAdmission(
        gauges=ground.gauges,
        spare=MemoryGauges(share=1 / ground.settings.workers, lease_s=ground.settings.lease_s),
        rulebook=rulebook,
        on_expired=lambda expired: ground.ledger.put(charged(expired, time())),
        alerts=webhooks,
        rounds=Rounds.of(ground.settings.lease_s),
    )


def _cache(ground: Ground, embedding: Embedding) -> Cache:
    """Where answers are cached; it has a connection of its own to Redis."""
    settings = ground.settings
    finder, topics = likeness(in_use(settings.cache_configuration))
    form = form_of(settings.cache_keys.get_secret_value() if settings.cache_keys else "")
    link, store, leases, adapting = None, None, None, Adapting(ground.health)
    if settings.cache_store == "redis" or (settings.cache_store == "auto" and settings.redis_url):
        link = RedisLink(settings.redis_url, settings.cache_timeout_s)
        store = RedisStore(link, settings.redis_url, finder, form=form)
        leases = store.leases
    return Cache(
        store=store or (None if settings.cache_store == "off" else MemoryStore(finder)),
        link=link,
        finder=finder,
        topics=topics,
        embedding=embedding,
        sharing=Sharing(settings.cache_sharing),
        room=(settings.cache_max_entries, settings.cache_max_bytes),
        trust=TrustBook(topics, EvidenceStore(ground.engine)),
        together=Together(leases=leases, asking=Asking(finder.another(), time), patience=adapting.patience_s),
        adapting=adapting,
    )


def _checks(cache: Cache, embedding: Embedding, funds: Funds, delivery: Delivery) -> Checks:
    return Checks(trust=cache.trust, embedding=embedding, funds=funds, logged=delivery.logged, rng=random.Random())


def _gauges(settings: Settings, engine: AsyncEngine, link: RedisLink | None) -> Gauges:
    """Redis where there is one, else the database: what was spent must outlive the process."""
    if link is not None:
        return RedisGauges(link, SpendBook(engine), settings.lease_s)
    return SqlGauges(engine, share=1 / settings.workers, lease_s=settings.lease_s)


def _shared_health(ground: Ground) -> SharedHealth | None:
    """What workers tell each other of endpoints, where they have a Redis."""
    return SharedHealth(ground.health, RedisSharedState(ground.link), monotonic) if ground.link is not None else None


def _console(ground: Ground) -> Parts:
    """What the admin console's pages are made of."""
    settings = ground.settings
    lifetime = Lifetime(settings.console_idle_s, settings.console_session_s)
    return Parts(
        rendering=Rendering(),
        sessions=SessionStore(ground.engine, lifetime, key_roles(settings.console_key_role)),
        throttle=Throttle(monotonic),
        oidc=Oidc.from_settings(settings),
        health=ground.health,
    )


def _lines(settings: Settings) -> RequestLog | None:
    return RequestLog() if settings.log_level in ("debug", "info") else None


def _metrics(health: Health) -> Metrics:
    made = Metrics(metrics_folder())
    for state in (State.OPEN, State.HALF_OPEN):
        made.watch(f"breakers_{state}", "Workers that hold calls to an endpoint back.", partial(health.in_state, state))
    return made


def _tracer(ground: Ground) -> Tracer | None:
    if not ground.settings.otlp_endpoint:
        return None
    poster, url = Poster(ground.http), f"{ground.settings.otlp_endpoint.rstrip('/')}/v1/traces"
    return Tracer(lambda body: poster.protobuf(url, body))


def catalogue_of(settings: Settings) -> Catalogue:
    """The shipped catalogue with the operator's file merged over it; `PolicyError` where that is wrong."""
    return load_catalogue(shipped_catalogue_path(), over=settings.catalogue)
