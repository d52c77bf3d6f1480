"""The one file that knows the order of a request's stages; no stage calls another stage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from gateway.admission.base import Admission
from gateway.admission.estimates import Estimates
from gateway.answer import Answer
from gateway.cache import replayed
from gateway.cache.adapting import may_be_answered
from gateway.cache.asked import Asked, Hit
from gateway.cache.cache import Cache
from gateway.cache.collecting import Keeping
from gateway.cache.control import without_control
from gateway.choices import able, as_named, nobody
from gateway.delivery import Delivery, ms_since
from gateway.describe import describe
from gateway.dispatch.dispatch import Call, Dispatcher
from gateway.dispatch.effort import EffortRule
from gateway.dispatch.eligible import eligible
from gateway.dispatch.health import Health
from gateway.dispatch.stickiness import session_of
from gateway.embedding import Embedding
from gateway.errors import BudgetExceeded, NotCached, Overloaded, UpstreamError
from gateway.following import along
from gateway.incoming import Incoming
from gateway.ledger.record import Record
from gateway.lifecycle.purse import Purse
from gateway.lifecycle.trials.book import TrialBook
from gateway.meaning import Meanings, Placing, Route
from gateway.noting import (
    answer_headers,
    hit_headers,
    note_decision,
    note_hit,
    note_target,
    note_unanswered,
    strategy_headers,
)
from gateway.pacing import Paces
from gateway.strategies.base import NobodyAnswered, Strategy
from gateway.strategies.find import Tactics
from gateway.strategies.fit import tactics_for
from gateway.strategies.sitting import Means, Sitting
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_resaid import as_stream
from gateway.wire.reply import Held, OneFrame, Reply
from policies.schema import CacheMode, Policy
from routers.choose import choose
from routers.decision import Decision, Query, Ranked
from routers.decision import Embedding as Embedded
from routers.inputs import facts_of

__all__ = ["Answer", "Pipeline"]


class Pipeline:
    """The straight line: describe, embed, cache, filter, forecast, choose, reserve, dispatch, meter, settle, log."""

    def __init__(
        self,
        *,
        meanings: Meanings,
        embedding: Embedding,
        dispatcher: Dispatcher,
        health: Health,
        admission: Admission,
        estimates: Estimates,
        delivery: Delivery,
        paces: Paces,
        purse: Purse,
        cache: Cache,
        trials: TrialBook,
        rng: random.Random,
    ) -> None:
        self._meanings = meanings
        self._embedding = embedding
        self._dispatcher = dispatcher
        self._health = health
        self._admission = admission
        self._estimates = estimates
        self._delivery = delivery
        self._paces = paces
        self._purse = purse
        self._cache = cache
        self._trials = trials
        self._rng = rng

    async def chat(self, request: ChatRequest, incoming: Incoming) -> Reply:
        """Answer a request; the reply's frames settle and log it when they end, however they end.

        Raises `GatewayError`, frames too; the caller logs what fails before a reply.
        """
        caller, record = incoming.caller, incoming.record
        record.model_requested, record.stream = request.envelope.model, request.stream
        record.end_user, record.tags = request.envelope.user, list(incoming.tags) or None
        self._admission.precheck(caller)
        route = self._route(request, incoming, self._trials.placing(request, incoming))
        asked = self._cache.asked(request, caller, route, incoming.text(b"cache-control"))
        request = without_control(request)
        if asked is None:
            return await self._anew(request, incoming, route, await self._understood(request, route, record))
        asked.payer = (caller.key_id, *(record.tags or ()))
        if b"x-fingerpost-timeout" in incoming.headers:
            asked.latest_s = _deadline(incoming)
        try:
            return await self._cached(request, incoming, route, asked)
        except BaseException:
            asked.land()
            raise

    async def _cached(self, request: ChatRequest, incoming: Incoming, route: Route, asked: Asked) -> Reply:
        """From the cache where it has the answer; else the answer is kept for the next one who asks."""
        record = incoming.record
        hit = await self._cache.repeat(asked)
        if hit is None:
            query = await self._understood(request, route, record, asked)
            hit = await self._cache.like(asked, query)
        if hit is not None:
            asked.release()
            self._cache.used(hit, asked)
            again = self._again(request, incoming, route.active.policy, hit)
            if hit.kind is CacheMode.SEMANTIC and not hit.stale_s:
                self._cache.check(asked, hit, incoming, partial(self._really, route, query))
            return again
        record.cache_status = asked.status
        if asked.control.only_if_cached:
            raise NotCached("'cache-control: only-if-cached' asks for a cached answer; there is none.")
        keeping = self._cache.keeping(asked, query)
        try:
            return await self._anew(request, incoming, route, query, keeping)
        except (Overloaded, UpstreamError) as error:
            hit = await self._cache.instead(asked, query) if may_be_answered(error) else None
            if hit is None:
                raise
        asked.release()
        self._cache.used(hit, asked)
        return self._again(request, incoming, route.active.policy, hit)

    async def _really(
        self, route: Route, query: Query, request: ChatRequest, incoming: Incoming, model: str | None
    ) -> Reply:
        """See `checks.Anew`: what the cache has answered, or a question of its own to one of the policy's models."""
        if model is not None:
            targets = tuple(one for one in route.active.targets if one.card.id == model)
            route = replace(route, targets=targets, pinned=(model,))
            query = await self._understood(request, route, incoming.record)
        return await self._anew(without_control(request), incoming, route, query)

    async def _anew(
        self, request: ChatRequest, incoming: Incoming, route: Route, query: Query, keeping: Keeping | None = None
    ) -> Reply:
        """Not from the cache."""
        decision = self._decision(request, incoming, route, query)
        self._trials.follow(request, incoming, decision, self.decide)
        with self._purse.trying(decision, incoming.record):
            return await self._answered(request, incoming, route, query, decision, keeping)

    def _again(self, request: ChatRequest, incoming: Incoming, policy: Policy, hit: Hit) -> Reply:
        """An answer that was given before: nothing is reserved and nothing is called."""
        record = incoming.record
        note_hit(record, hit)
        if policy.log.prompts:
            record.prompt = bytes(request.fields["messages"]).decode(errors="replace")
            record.answer = hit.stored.body.decode(errors="replace")
        if hit.seat is not None:
            ended = partial(self._delivery.logged, record, incoming.started)
            frames = along(hit.seat, record, incoming.started, request.wants_usage, policy.log.prompts, ended)
            return Reply(frames, stream=True, headers=hit_headers(record, hit))
        record.first_byte_ms = ms_since(incoming.started)
        self._delivery.logged(record, incoming.started)
        body, headers = hit.stored.body, hit_headers(record, hit)
        if request.stream:
            return Reply(Held(replayed.frames(body, request.wants_usage)), stream=True, headers=headers)
        return Reply(OneFrame(replayed.body(body)), stream=False, headers=headers)

    async def _answered(
        self,
        request: ChatRequest,
        incoming: Incoming,
        route: Route,
        query: Query,
        decision: Decision,
        keeping: Keeping | None = None,
    ) -> Reply:
        """By one call or by the policy's strategy, as was decided."""
        record, policy = incoming.record, route.active.policy
        if policy.log.prompts:
            record.prompt = bytes(request.fields["messages"]).decode(errors="replace")
        deadline = _deadline(incoming)  # may be unusable, so it is read before anything is set aside
        tactics = tactics_for(route.active.plan, request, query, decision, record, pinned=bool(route.pinned))
        if tactics is not None and tactics.strategy is not None:
            sitting = self._sitting(tactics, request, incoming, query, decision, policy, deadline)
            return await self._by_strategy(tactics.strategy, sitting, incoming, policy, keeping)
        effort = tactics.effort if tactics is not None else None
        answer = await self._opened(request, incoming, query, decision.ranking, policy, deadline, effort)
        answer.keeping = keeping
        answer.own_length = None if answer.lease.hard else request.max_output_tokens
        record.first_byte_ms = ms_since(incoming.started)
        opened = answer.opened
        headers = [*answer_headers(record, opened), *answer.lease.headers]
        if opened.reply.stream:
            return Reply(self._delivery.frames(answer), stream=True, dialect=opened.reply.dialect, headers=headers)
        whole = OneFrame(await self._delivery.whole(answer))
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
            settle=self._delivery.settle,
            balance=lambda order: self._dispatcher.order(replace(decision, ranking=tuple(order)), policy, session),
            embed=self._embedding.of,
            deadline=deadline,
        )
        return Sitting(tactics.spec, policy, request, incoming, query, decision, means)

    async def _by_strategy(
        self, strategy: Strategy, sitting: Sitting, incoming: Incoming, policy: Policy, keeping: Keeping | None
    ) -> Reply:
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
        record.first_byte_ms = ms_since(incoming.started)
        sitting.conclude()
        headers = [*strategy_headers(record, answer.opened, sitting.sums().cost_usd), *answer.lease.headers]
        if answer.opened.reply.stream:
            answer.keeping = keeping
            return Reply(self._delivery.frames(answer), stream=True, headers=headers)
        body = sitting.body(answer)
        record.status, record.error_code = 200, None
        record.answer = body.decode(errors="replace") if policy.log.prompts else None
        self._delivery.logged(record, incoming.started)
        if keeping is not None:
            keeping.feed(body)
            keeping.done(record)
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
        request = replace(request, upstream_headers=incoming.passed_on, circle=incoming.caller.key_id)
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

    async def decide(
        self, request: ChatRequest, incoming: Incoming, placing: Placing | None = None
    ) -> tuple[Route, Query, Decision]:
        """Everything up to the decision, whose ranking is the order of calls; nothing is called but the embedder, and
        that only where it is needed. Counts for no trial."""
        placing = placing or self._trials.placing(request, incoming, noted=False)
        route = self._route(request, incoming, placing)
        request = without_control(request)
        query = await self._understood(request, route, incoming.record)
        return route, query, self._decision(request, incoming, route, query)

    def _route(self, request: ChatRequest, incoming: Incoming, placing: Placing | None) -> Route:
        envelope, record = request.envelope, incoming.record
        route = self._meanings.of(envelope.model, envelope.models, incoming.caller, placing)
        record.policy, record.policy_sha256 = route.active.policy.name, route.active.sha256
        return route

    def _decision(self, request: ChatRequest, incoming: Incoming, route: Route, query: Query) -> Decision:
        """Who is called, in which order."""
        envelope, record, active = request.envelope, incoming.record, route.active
        began = perf_counter()
        found = eligible(query.features, able(route.targets, request), active.policy, self._health)
        if not found.candidates:
            raise nobody(envelope.model, found.excluded)
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
            decision = as_named(decision, route.pinned)
        decision = self._ordered(request, incoming, query, decision, active.policy)
        note_decision(record, query, decision)
        record.route_ms = ms_since(began)
        return decision

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

    async def _understood(
        self, request: ChatRequest, route: Route, record: Record, asked: Asked | None = None
    ) -> Query:
        """The query with its category and, where policy, router or cache need it, the embedding."""
        query, categoriser = describe(request), route.active.categoriser
        vector: Embedded | None = None
        facts = query.facts
        named = categoriser.by_predicate(query)
        wanted = route.active.router.needs_embedding or (named is None and categoriser.needs_embedding)
        cached = asked is not None and asked.needs_embedding(is_named=named is not None)
        if ((wanted and not route.pinned) or cached) and query.text:
            began = perf_counter()
            vector = await self._embedding.of(query.text)
            record.embed_ms = ms_since(began)
            if vector is not None and route.active.policy.log.embeddings:
                record.embedding = vector.astype(np.float16).tobytes()
                record.embedder = self._embedding.id
                facts = facts_of(query.text, query.features.tokens, query.features.code, query.features.tools)
        category = named or categoriser.by_example(vector)
        if vector is None and category == query.category:
            return query
        return replace(query, embedding=vector, category=category, facts=facts)


def _deadline(incoming: Incoming) -> float | None:
    """The event loop's time by which the answer must have begun, where the client says so."""
    timeout_s = incoming.timeout_s
    if timeout_s is None:
        return None
    return asyncio.get_running_loop().time() + timeout_s - (perf_counter() - incoming.started)
