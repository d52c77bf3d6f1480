"""The one file that knows the order of a request's stages; no stage calls another stage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from gateway.admission.base import Admission
from gateway.admission.estimates import Estimates
from gateway.answer import Answer
from gateway.describe import describe
from gateway.dispatch.dispatch import Call, Dispatcher
from gateway.dispatch.effort import EffortRule
from gateway.dispatch.eligible import eligible
from gateway.dispatch.health import Health
from gateway.dispatch.stickiness import session_of
from gateway.embedding import Embedding
from gateway.errors import BudgetExceeded, GatewayError, NoEndpoint, UnsupportedCapability, UpstreamError
from gateway.incoming import Incoming
from gateway.ledger.base import Ledger
from gateway.ledger.record import Record
from gateway.lifecycle.purse import Purse
from gateway.meaning import Meanings, Route
from gateway.noting import answer_headers, note_decision, note_target, note_unanswered, note_usage, strategy_headers
from gateway.observe import Observer
from gateway.pacing import Paces
from gateway.providers.base import Target
from gateway.spending import Spending
from gateway.strategies.base import NobodyAnswered, Strategy
from gateway.strategies.find import Tactics
from gateway.strategies.fit import tactics_for
from gateway.strategies.sitting import Means, Sitting
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_resaid import as_stream
from gateway.wire.reply import CLIENT_LEFT, OneFrame, Reply
from policies.schema import Policy
from routers.choose import choose
from routers.decision import Decision, Query, Ranked
from routers.decision import Embedding as Embedded
from routers.inputs import facts_of

__all__ = ["Answer", "Pipeline"]


class Pipeline:
    """The straight line: describe, embed, filter, forecast, choose, reserve, dispatch, meter, settle, log."""

    def __init__(
        self,
        *,
        meanings: Meanings,
        embedding: Embedding,
        dispatcher: Dispatcher,
        health: Health,
        admission: Admission,
        estimates: Estimates,
        ledger: Ledger,
        observer: Observer,
        paces: Paces,
        purse: Purse,
        rng: random.Random,
    ) -> None:
        self._meanings = meanings
        self._embedding = embedding
        self._dispatcher = dispatcher
        self._health = health
        self._admission = admission
        self._estimates = estimates
        self._ledger = ledger
        self._observer = observer
        self._paces = paces
        self._purse = purse
        self._rng = rng

    async def chat(self, request: ChatRequest, incoming: Incoming) -> Reply:
        """Answer a request; the reply's frames settle and log it when they end, however they end.

        Raises `GatewayError`, frames too; the caller logs what fails before a reply.
        """
        caller, record = incoming.caller, incoming.record
        record.model_requested, record.stream = request.envelope.model, request.stream
        record.end_user, record.tags = request.envelope.user, list(incoming.tags) or None
        self._admission.precheck(caller)
        route, query, decision = await self.decide(request, incoming)
        with self._purse.trying(decision, record):
            return await self._answered(request, incoming, route, query, decision)

    async def _answered(
        self, request: ChatRequest, incoming: Incoming, route: Route, query: Query, decision: Decision
    ) -> Reply:
        """By one call or by the policy's strategy, as was decided."""
        record, policy = incoming.record, route.active.policy
        if policy.log.prompts:
            record.prompt = bytes(request.fields["messages"]).decode(errors="replace")
        deadline = _deadline(incoming)  # may be unusable, so it is read before anything is set aside
        tactics = tactics_for(route.active.plan, request, query, decision, record, pinned=bool(route.pinned))
        if tactics is not None and tactics.strategy is not None:
            sitting = self._sitting(tactics, request, incoming, query, decision, policy, deadline)
            return await self._by_strategy(tactics.strategy, sitting, incoming, policy)
        effort = tactics.effort if tactics is not None else None
        answer = await self._opened(request, incoming, query, decision.ranking, policy, deadline, effort)
        record.first_byte_ms = _ms_since(incoming.started)
        opened = answer.opened
        headers = [*answer_headers(record, opened), *answer.lease.headers]
        if opened.reply.stream:
            return Reply(self._frames(answer), stream=True, dialect=opened.reply.dialect, headers=headers)
        whole = OneFrame(await self._finished(answer))
        return Reply(whole, stream=False, dialect=opened.reply.dialect, headers=headers)

    def _sitting(
        self,
        tactics: Tactics,
        request: ChatRequest,
        incoming: Incoming,
        query: Query,
        decision: Decision,
        policy: Policy,
        deadline: float | None,
    ) -> Sitting:
        """Several calls that go through the stages of a plain one, each; all within one time limit."""
        latest = asyncio.get_running_loop().time() + policy.fallback.deadline_s
        deadline = latest if deadline is None else min(deadline, latest)
        session = incoming.record.session
        means = Means(
            open=partial(self._opened, policy=policy, deadline=deadline, effort=tactics.effort),
            settle=self._settle,
            balance=lambda order: self._dispatcher.order(replace(decision, ranking=tuple(order)), policy, session),
            embed=self._embedding.of,
            deadline=deadline,
        )
        return Sitting(tactics.spec, policy, request, incoming, query, decision, means)

    async def _by_strategy(self, strategy: Strategy, sitting: Sitting, incoming: Incoming, policy: Policy) -> Reply:
        """An answer of several calls, logged as one request; what fails before a reply is logged by the caller."""
        record, request = sitting.record, sitting.request
        try:
            try:
                told = await strategy.answer(sitting)
            except NobodyAnswered as failed:
                told = await sitting.fall_back(failed)
            answer = await sitting.choose(told)
        except BaseException:
            await sitting.give_up()
            raise
        record.first_byte_ms = _ms_since(incoming.started)
        sitting.conclude()
        headers = [*strategy_headers(record, answer.opened, sitting.sums().cost_usd), *answer.lease.headers]
        if answer.opened.reply.stream:
            return Reply(self._frames(answer), stream=True, headers=headers)
        body = sitting.body(answer)
        record.status, record.error_code = 200, None
        record.answer = body.decode(errors="replace") if policy.log.prompts else None
        self._observed(record, incoming.started)
        self._ledger.put(record)
        frame = as_stream(body, request.wants_usage) if request.stream else body
        return Reply(OneFrame(frame), stream=request.stream, headers=headers)

    async def _opened(
        self,
        request: ChatRequest,
        incoming: Incoming,
        query: Query,
        order: Sequence[Ranked],
        policy: Policy,
        deadline: float | None,
        effort: EffortRule | None,
    ) -> Answer:
        """Reserve, then call; what was reserved is given back where nothing is opened."""
        record = incoming.record
        needs = [self._estimates.need(ranked, query, request) for ranked in order]
        fail_open = policy.budget.when_store_is_away == "open"
        caller = self._paces.bound(policy, incoming.caller)
        try:
            lease = await self._admission.admit(caller, record.tags or (), needs, fail_open)
        except BudgetExceeded as error:
            self._paces.refuse(policy, error)
            raise
        self._paces.spend(policy, order[lease.place].cost_nanousd)
        if incoming.passed_on:
            request = replace(request, upstream_headers=incoming.passed_on)
        try:
            call = Call(
                request, query, order, needs, lease, policy.fallback, record.attempts, record.at, deadline, effort
            )
            opened = await self._dispatcher.open(call)
        except BaseException:
            unanswered = note_unanswered(record, order, query, lease.reserved_nanousd)
            lease.settle(unanswered.cost_nanousd, unanswered.tokens)
            raise
        note_target(record, opened)
        record.reserved_nanousd = lease.reserved_nanousd or None
        return Answer(opened, lease, query, record, incoming.started, policy, request.choices)

    async def _finished(self, answer: Answer) -> bytes:
        """A whole answer, settled and logged: whether the client still waits for it changes nothing any more."""
        opened, record = answer.opened, answer.record
        self._settle(answer)
        if answer.policy.log.prompts:
            record.answer = opened.first.decode(errors="replace")
        self._ledger.put(record)
        await opened.reply.frames.aclose()
        return opened.first

    async def decide(self, request: ChatRequest, incoming: Incoming) -> tuple[Route, Query, Decision]:
        """Everything up to the decision, whose ranking is the order of calls; nothing is called but the embedder, and
        that only where it is needed."""
        envelope, record = request.envelope, incoming.record
        route = self._meanings.of(envelope.model, envelope.models, incoming.caller)
        active = route.active
        record.policy, record.policy_sha256 = active.policy.name, active.sha256
        query = describe(request)
        query = await self._understand(query, route, record)
        embedded = perf_counter()
        found = eligible(query.features, _able(route.targets, request), active.policy, self._health)
        if not found.candidates:
            raise _nobody(envelope.model, found.excluded)
        decision = choose(
            active.policy,
            active.router.kind,
            query,
            found.candidates,
            active.router.forecast(query, found.candidates),
            active.router.reason(query),
            self._rng,
            active.artifact_sha256,
            excluded=found.excluded,
            multiplier=self._paces.multiplier(active.policy),
            allowance_nanousd=self._purse.left(active.policy.name),
            explores=active.plan is None or active.plan.of(query.category).strategy is None,
        )
        if route.pinned:
            decision = _as_named(decision, route.pinned)
        decision = self._ordered(request, incoming, query, decision, active.policy)
        note_decision(record, query, decision)
        record.route_ms = (perf_counter() - embedded) * 1000
        return route, query, decision

    def _ordered(
        self, request: ChatRequest, incoming: Incoming, query: Query, decision: Decision, policy: Policy
    ) -> Decision:
        """The decision with its ranking in the order of calls: balanced, kept to the session, fallbacks first."""
        session = session_of(request, query, incoming.caller.key_id, incoming.text(b"x-fingerpost-session"))
        incoming.record.session = session
        order = tuple(self._dispatcher.order(decision, policy, session))
        if order == decision.ranking:  # compares identities, mostly; a replacement costs more
            return decision
        note = order[0].note
        return replace(decision, ranking=order, reason=f"{decision.reason} {note}" if note else decision.reason)

    async def _understand(self, query: Query, route: Route, record: Record) -> Query:
        """Category and, where policy or router need it, the embedding."""
        categoriser = route.active.categoriser
        vector: Embedded | None = None
        facts = query.facts
        named = categoriser.by_predicate(query)
        wanted = route.active.router.needs_embedding or (named is None and categoriser.needs_embedding)
        if wanted and not route.pinned and query.text:
            began = perf_counter()
            vector = await self._embedding.of(query.text)
            record.embed_ms = _ms_since(began)
            if vector is not None and route.active.policy.log.embeddings:
                record.embedding = vector.astype(np.float16).tobytes()
                record.embedder = self._embedding.id
                facts = facts_of(query.text, query.features.tokens, query.features.code, query.features.tools)
        category = named or categoriser.by_example(vector)
        if vector is None and category == query.category:
            return query
        return replace(query, embedding=vector, category=category, facts=facts)

    async def _frames(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """The frames a client sees; settles the record in `finally`, also when the client leaves."""
        whole = answer.whole
        record = answer.record if whole is None else whole.record
        kept: list[bytes] | None = [] if answer.policy.log.prompts else None
        record.status, record.error_code = 500, "internal_error"
        try:
            async with aclosing(self._metered(answer)) as metered:
                async for metered_frame in metered:
                    frame = metered_frame if whole is None else whole.shown(metered_frame)
                    if kept is not None:
                        kept.append(frame)
                    yield frame
        except GeneratorExit:
            record.status, record.error_code = 499, "client_disconnected"
            raise
        except GatewayError as error:
            record.status, record.error_code = error.http_status, error.detail()["code"]
            raise
        except asyncio.CancelledError as error:
            left = CLIENT_LEFT in error.args
            record.status, record.error_code = (499, "client_disconnected") if left else (503, "shutting_down")
            raise
        finally:
            try:
                self._conclude(answer, kept)
            finally:  # last, for it may be cancelled once more
                await answer.opened.reply.frames.aclose()

    def _conclude(self, answer: Answer, kept: list[bytes] | None) -> None:
        """Settle and log a stream that has ended."""
        whole = answer.whole
        record = answer.record if whole is None else whole.record
        self._settle(answer)
        if whole is not None:
            if answer.opened.meter.done:
                record.status, record.error_code = 200, None
            whole.conclude()
            self._observed(record, answer.started)
        if kept is not None:
            record.answer = b"".join(kept).decode(errors="replace")
        self._ledger.put(record)

    async def _metered(self, answer: Answer) -> AsyncGenerator[bytes, None]:
        """Frames with usage priced or hidden, ended where the budget ends; `UpstreamError` where the stream breaks."""
        opened, meter, record = answer.opened, answer.opened.meter, answer.record
        tokens = answer.query.features.tokens
        spending = Spending(answer.lease, meter, opened.target.card, tokens, record.at) if answer.lease.hard else None
        try:
            if opened.first:
                yield opened.first
            async for frame in opened.frames:
                if meter.done:
                    continue
                shown = await spending.heard(frame) if spending is not None else meter.stream(frame)
                if shown:
                    yield shown
                if spending is not None and spending.exhausted:
                    record.budget_exhausted = True
                    break
            owed = meter.cut() if record.budget_exhausted else meter.end_of_stream()
            if owed:
                yield owed
        except UpstreamError:
            self._health.failed(opened.target.endpoint.id)
            raise

    def _settle(self, answer: Answer) -> None:
        record = answer.record
        note_usage(record, answer.opened)
        usage = answer.opened.meter.settle()
        answer.lease.settle(usage.cost_nanousd, usage.input_tokens + usage.output_tokens)
        self._estimates.learn(answer.opened.ranked, answer.query, usage, record.finish_reason, answer.choices)
        if answer.whole is None:
            self._observed(record, answer.started)

    def _observed(self, record: Record, started: float) -> None:
        record.total_ms = _ms_since(started)
        self._observer.answered(record)


def _able(targets: tuple[Target, ...], request: ChatRequest) -> tuple[Target, ...]:
    """Those that can be told all of a request; some features exist in its own dialect only."""
    if request.native_only is None or request.original is None:
        return targets
    dialect = request.original.dialect
    able = tuple(one for one in targets if one.speaks(dialect))
    if not able:
        raise UnsupportedCapability(request.native_only)
    return able


def _deadline(incoming: Incoming) -> float | None:
    """The event loop's time by which the answer must have begun, where the client says so."""
    timeout_s = incoming.timeout_s
    return None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s


def _as_named(decision: Decision, named: tuple[str, ...]) -> Decision:
    """The ranking in the request's own order of models, since it named them."""
    places = {model: place for place, model in enumerate(named)}
    ranking = tuple(sorted(decision.ranking, key=lambda ranked: places[ranked.candidate.card.id]))
    return replace(
        decision,
        ranking=ranking,
        router_kind="pinned",
        extra_nanousd=0,
        reason=f"The request names {', '.join(map(repr, named))}.",
    )


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
