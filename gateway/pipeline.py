"""The one file that knows the order of a request's stages; no stage calls another stage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from gateway.admission.keys import Caller
from gateway.describe import describe
from gateway.dispatch.dispatch import Dispatcher, Opened
from gateway.dispatch.eligible import eligible
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.embedding import Embedding
from gateway.errors import (
    GatewayError,
    ModelNotAllowed,
    ModelNotFound,
    NoEndpoint,
    UnsupportedCapability,
    UpstreamError,
)
from gateway.ledger.base import Ledger
from gateway.ledger.record import Record
from gateway.lifecycle.policy_store import ActivePolicy, PolicyStore
from gateway.metrics import Metrics
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import CLIENT_LEFT, OneFrame, Reply
from gateway.wire.sse import event
from policies.catalogue import Task
from policies.schema import Policy
from routers.choose import choose
from routers.decision import Decision, Query
from routers.decision import Embedding as Embedded

AUTO = "auto"
DEFAULT_POLICY = "default"


@dataclass(frozen=True, slots=True)
class Route:
    """What a request's `model` means: under which policy, over which endpoints, pinned or routed."""

    active: ActivePolicy
    targets: tuple[Target, ...]
    pinned: bool


class Pipeline:
    """The straight line: describe, embed, categorise, filter, forecast, choose, dispatch, meter, log."""

    def __init__(
        self,
        *,
        policies: PolicyStore,
        fleet: Fleet,
        embedding: Embedding,
        dispatcher: Dispatcher,
        health: Health,
        ledger: Ledger,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._policies = policies
        self._fleet = fleet
        self._embedding = embedding
        self._dispatcher = dispatcher
        self._health = health
        self._ledger = ledger
        self._metrics = metrics
        self._rng = rng

    async def chat(self, request: ChatRequest, caller: Caller, record: Record, started: float) -> Reply:
        """Answer a request; the reply's frames settle and log it when they end, however they end.

        `started` is `perf_counter()` at admission. Raises `GatewayError`; the caller logs what fails before a reply.
        """
        record.model_requested = request.envelope.model
        record.stream = request.stream
        route, query, decision = await self.decide(request, caller, record, started)
        policy = route.active.policy
        record.decision = _ranking(decision)
        if policy.log.prompts:
            record.prompt = bytes(request.fields["messages"]).decode(errors="replace")
        opened = await self._dispatcher.open(request, query, decision, policy.fallback, record.attempts)
        _note_target(record, opened)
        record.first_byte_ms = _ms_since(started)
        headers = self._headers(record, opened)
        if not opened.reply.stream:
            return Reply(OneFrame(await self._finished(opened, record, started, policy)), stream=False, headers=headers)
        frames = self._frames(opened, record, started, keep_answer=policy.log.prompts)
        return Reply(frames, stream=True, headers=headers)

    async def _finished(self, opened: Opened, record: Record, started: float, policy: Policy) -> bytes:
        """A whole answer, settled and logged: whether the client still waits for it changes nothing any more."""
        await opened.reply.frames.aclose()
        self._settle(opened, record, started)
        if policy.log.prompts:
            record.answer = opened.first.decode(errors="replace")
        self._ledger.put(record)
        return opened.first

    async def decide(
        self, request: ChatRequest, caller: Caller, record: Record, started: float
    ) -> tuple[Route, Query, Decision]:
        """Everything up to the decision; nothing is called but the embedder, and that only where it is needed."""
        route = self.resolve(request.envelope.model, caller)
        active = route.active
        record.policy, record.policy_sha256 = active.policy.name, active.sha256
        query = describe(request)
        query = await self._understand(query, route, record)
        embedded = perf_counter()
        found = eligible(query.features, route.targets, active.policy, self._health)
        if not found.candidates:
            raise _nobody(request.envelope.model, found.excluded)
        decision = choose(
            active.policy,
            active.router.kind,
            query,
            found.candidates,
            active.router.forecast(query, found.candidates),
            active.router.reason(query),
            self._rng,
            excluded=found.excluded,
        )
        if route.pinned:
            decision = replace(decision, router_kind="pinned", reason=f"The request names '{record.model_requested}'.")
        record.category = query.category
        record.features = _features(query)
        record.router_kind, record.reason = decision.router_kind, decision.reason
        record.route_ms = (perf_counter() - embedded) * 1000
        return route, query, decision

    def resolve(self, model: str, caller: Caller) -> Route:
        """What `model` means for this caller; `ModelNotFound` or `ModelNotAllowed`."""
        name, _, policy_name = model.partition(":")
        routed = name == AUTO
        wanted = policy_name if routed and policy_name else caller.policy or DEFAULT_POLICY
        active = self._policies.current(wanted)
        if active is None:
            known = ", ".join(f"auto:{one}" for one in self._policies.names())
            raise ModelNotFound(f"There is no policy '{wanted[:80]}'; known: {known}.", param="model")
        if caller.policy and wanted != caller.policy:
            raise ModelNotAllowed(f"This key may only use the policy '{caller.policy}'.", param="model")
        if not routed:
            return Route(active, self._pinned(model, active, caller), pinned=True)
        targets = active.targets
        if caller.allowed_models is not None:
            targets = tuple(one for one in targets if one.card.id in caller.allowed_models)
        return Route(active, targets, pinned=False)

    def _pinned(self, model: str, active: ActivePolicy, caller: Caller) -> tuple[Target, ...]:
        card = self._fleet.catalogue.card(model)
        if card is None or card.task is not Task.CHAT:
            raise ModelNotFound(
                f"The model '{model[:120]}' does not exist here. GET /v1/models lists what does.", param="model"
            )
        if not active.policy.allows(model) or (
            caller.allowed_models is not None and model not in caller.allowed_models
        ):
            raise ModelNotAllowed(f"The policy '{active.policy.name}' does not allow '{model}'.", param="model")
        targets = self._fleet.of_model(model)
        if not targets:
            reasons = [
                f"{row.id}: {self._fleet.disabled[row.id]}"
                for row in self._fleet.catalogue.endpoint
                if row.model == model
            ]
            raise ModelNotFound(
                f"No endpoint of '{model}' is enabled ({'; '.join(reasons) or 'none exists'}).", param="model"
            )
        return targets

    async def _understand(self, query: Query, route: Route, record: Record) -> Query:
        """Category and, where policy or router need it, the embedding."""
        categoriser = route.active.categoriser
        vector: Embedded | None = None
        named = categoriser.by_predicate(query)
        wanted = route.active.router.needs_embedding or (named is None and categoriser.needs_embedding)
        if wanted and not route.pinned and query.text:
            began = perf_counter()
            vector = await self._embedding.of(query.text)
            record.embed_ms = _ms_since(began)
            if vector is not None and route.active.policy.log.embeddings:
                record.embedding = vector.astype(np.float16).tobytes()
                record.embedder = self._embedding.id
        return replace(query, embedding=vector, category=named or categoriser.by_example(vector))

    async def _frames(
        self, opened: Opened, record: Record, started: float, keep_answer: bool
    ) -> AsyncGenerator[bytes, None]:
        """The frames a client sees; settles the record in `finally`, also when the client leaves."""
        kept: list[bytes] | None = [] if keep_answer else None
        record.status, record.error_code = 500, "internal_error"
        try:
            async with aclosing(self._metered(opened, record)) as metered:
                async for frame in metered:
                    if kept is not None:
                        kept.append(frame)
                    yield frame
        except GeneratorExit:
            record.status, record.error_code = 499, "client_disconnected"
            raise
        except asyncio.CancelledError as error:
            left = CLIENT_LEFT in error.args
            record.status, record.error_code = (499, "client_disconnected") if left else (503, "shutting_down")
            raise
        finally:
            await opened.reply.frames.aclose()
            self._settle(opened, record, started)
            if kept is not None:
                record.answer = b"".join(kept).decode(errors="replace")
            self._ledger.put(record)

    async def _metered(self, opened: Opened, record: Record) -> AsyncGenerator[bytes, None]:
        meter = opened.meter
        try:
            if opened.first:
                yield opened.first
            async for frame in opened.frames:
                shown = meter.stream(frame) if not meter.done else b""
                if shown:
                    yield shown
            owed = meter.end_of_stream()
            if owed:
                yield owed
        except UpstreamError as error:
            record.status, record.error_code = error.http_status, error.code
            self._health.failed(opened.target.endpoint.id)
            yield event(error.body())

    def _settle(self, opened: Opened, record: Record, started: float) -> None:
        usage = opened.meter.settle()
        if opened.meter.done:
            record.status, record.error_code = 200, None
        record.input_tokens, record.output_tokens = usage.input_tokens, usage.output_tokens
        record.cached_tokens, record.reasoning_tokens = usage.cached_tokens, usage.reasoning_tokens
        record.usage_estimated = usage.estimated
        record.cost_nanousd = usage.cost_nanousd
        record.finish_reason = opened.meter.finish_reason
        record.total_ms = _ms_since(started)
        self._metrics.answered(record)

    def _headers(self, record: Record, opened: Opened) -> list[tuple[bytes, bytes]]:
        pairs = [
            ("x-fingerpost-model", opened.target.card.id),
            ("x-fingerpost-endpoint", opened.target.endpoint.id),
            ("x-fingerpost-policy", record.policy or ""),
            ("x-fingerpost-cache", record.cache_status),
        ]
        if not opened.reply.stream and opened.target.card.priced:
            pairs.append(("x-fingerpost-cost", f"{opened.meter.settle().cost_nanousd / 1e9:.9f}"))
        return [(name.encode(), value.encode("latin-1", "replace")) for name, value in pairs]


def _note_target(record: Record, opened: Opened) -> None:
    record.model = opened.target.card.id
    record.endpoint = opened.target.endpoint.id
    record.provider = opened.target.endpoint.provider
    record.propensity = opened.ranked.propensity
    if len(record.attempts) > 1:
        failed = ", ".join(attempt["endpoint"] for attempt in record.attempts[:-1])
        record.reason = f"{record.reason} But {failed} failed, so '{record.endpoint}' answered."


def _ranking(decision: Decision) -> list[dict[str, Any]]:
    """The decision as plain values for the ledger."""
    return [
        {
            "endpoint": one.candidate.endpoint.id,
            "model": one.candidate.card.id,
            "quality": round(one.forecast.quality, 4),
            "quality_low": round(one.forecast.quality_low, 4),
            "quality_high": round(one.forecast.quality_high, 4),
            "output_tokens": one.forecast.output_tokens,
            "latency_ms": round(one.forecast.latency_ms, 1),
            "cost_nanousd": one.cost_nanousd,
            "score": round(one.score, 6),
            "propensity": round(one.propensity, 6),
        }
        for one in decision.ranking
    ]


def _features(query: Query) -> dict[str, Any]:
    features = query.features
    return {
        "tokens": features.tokens,
        "turns": features.turns,
        "language": features.language,
        "code": features.code,
        "tools": features.tools,
        "modalities": sorted(features.modalities),
    }


def _nobody(model: str, excluded: dict[str, str]) -> GatewayError:
    """Every endpoint is out: by the request's own demands (400) or because none is enabled (503)."""
    if not excluded:
        return NoEndpoint(
            "No endpoint is enabled for this policy. Set a vendor's key, or install the local model; "
            "`fingerpost models` says what is missing."
        )
    reasons = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in list(excluded.items())[:8])
    return UnsupportedCapability(f"No endpoint of '{model}' can answer this request ({reasons}).", param="model")


def _ms_since(began: float) -> float:
    return (perf_counter() - began) * 1000
