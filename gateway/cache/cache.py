"""The cache as the pipeline uses it: what a request may be answered with, and what of its answer is kept.

It never fails a request and never makes one wait for longer than the store's bound: where the store is away, or what
it holds can't be used, the request is answered as if there were no cache.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from time import time
from typing import Any, TypeVar
from uuid import uuid4

from gateway.admission.rules import Caller
from gateway.cache.adapting import Adapting
from gateway.cache.asked import CALM, Asked, Hit
from gateway.cache.asking import Asks, Question
from gateway.cache.base import Quota, Store, StoreAway, Stored
from gateway.cache.canonical import canonical
from gateway.cache.checks import Anew, Checks
from gateway.cache.collecting import Keeping
from gateway.cache.control import control_of
from gateway.cache.eligibility import Window, allowed_by_category, allowed_by_form
from gateway.cache.flights import Word
from gateway.cache.forgetting import Forgetting, Told, named
from gateway.cache.identity import Scope, Sharing, fingerprints, group_of, key_line, tenant_of
from gateway.cache.index import LikenessIndex
from gateway.cache.leases import Look
from gateway.cache.partition import Vector
from gateway.cache.searching import Searching
from gateway.cache.together import Together
from gateway.cache.topics import Topics
from gateway.cache.trust import TrustBook
from gateway.embedding import Embedding
from gateway.errors import NotCached
from gateway.incoming import Incoming
from gateway.ledger.acts import Change
from gateway.ledger.record import Record
from gateway.meaning import Route
from gateway.redis_link import RedisLink
from gateway.wire.chat_request import ChatRequest
from policies.schema import CacheMode, Policy
from routers.decision import Query

log = logging.getLogger(__name__)

# Answers on their way to the store; beyond that they are not kept.
MOST_PENDING = 256
Done = TypeVar("Done")


class Cache:
    """One worker's."""

    def __init__(
        self,
        *,
        store: Store | None,
        finder: LikenessIndex,
        topics: Topics,
        trust: TrustBook,
        embedding: Embedding,
        sharing: Sharing,
        room: tuple[int, int],
        together: Together,
        adapting: Adapting,
        link: RedisLink | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self.counts: Counter[str] = Counter()
        self._finder = finder
        self._topics = topics
        self._embedding = embedding
        self._sharing = sharing
        self._room = room
        self._link = link
        self._clock = clock
        self._together = together
        self.trust = trust
        self.adapting = adapting
        self.forgetting = Forgetting(store, self.trust, is_alone=link is None)
        self.checks: Checks | None = None
        self._search = Searching(
            store=store,
            finder=finder,
            topics=topics,
            trust=trust,
            embedding=embedding,
            counts=self.counts,
            clock=clock,
            drop=lambda stored: self._beside(self._drop(stored)),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[asyncio.Task[Any]] = set()

    def asked(self, request: ChatRequest, caller: Caller, route: Route, header: str) -> Asked | None:
        """What the cache has to do with a request; None where nothing. Raises `InvalidRequest` for what it asks wrongly
        of the cache, `NotCached` where it wants a cached answer and no other but can't get one."""
        control = control_of(request, header)
        policy = route.active.policy
        if self._store is None or policy.most_cached is CacheMode.OFF or control.mode is CacheMode.OFF:
            if control.only_if_cached:
                raise NotCached("'cache-control: only-if-cached' asks for a cached answer, but this is not cached.")
            return None
        form = canonical(request)
        tenant = tenant_of(caller, self._sharing)
        scope = Scope(
            tenant=tenant,
            group=group_of(policy.name, route.pinned),
            key=key_line(caller),
            namespace=route.active.sha256,
            models=caller.allowed_models,
        )
        partition, exact = fingerprints(form, scope, control)
        may = allowed_by_form(request, form, control=control, window=self._window())
        name, mark = f"{tenant.kind}:{tenant.id}", self.forgetting.mark
        return Asked(request, policy, control, name, form, partition, exact, may, mark=mark, targets=route.targets)

    async def repeat(self, asked: Asked) -> Hit | None:
        """The answer to an exact repeat; of requests that come at once all but the first wait for its answer."""
        if not asked.control.reads:
            return None
        hit = await self._exact(asked)
        if hit is not None or not asked.control.stores:
            return hit
        return self._shared(await self._together.join(asked), asked, CacheMode.EXACT, 1.0)

    async def like(self, asked: Asked, query: Query) -> Hit | None:
        """An answer to what certainly asks the same; before that the request is bounded by its category."""
        rule, decides = asked.policy.cache_rule(query.category)
        asked.may = allowed_by_category(asked.may, asked.request, asked.form, mode=rule.mode, category_decides=decides)
        if asked.may.mode is CacheMode.OFF or not asked.control.reads:
            return None
        topic = self._search.topic(asked, query)
        asked.leeway = self.adapting.leeway(asked, rule, topic)
        hit = await self._search.kept(asked, query, topic, rule)
        if hit is not None or query.embedding is None or not topic:
            return hit
        question = self._question(asked, query.category, topic, query.embedding)
        return await self._soon(asked, question, rule.max_false_hit_share)

    async def instead(self, asked: Asked, query: Query) -> Hit | None:
        """What the policy gives in place of an error, where those who were to answer can't just now."""
        rule, _ = asked.policy.cache_rule(query.category)
        topic = self._search.topic(asked, query)
        asked.leeway = self.adapting.utmost(asked, rule, topic)
        if asked.leeway is CALM or asked.may.mode is CacheMode.OFF or not asked.control.reads:
            return None
        return await self._search.kept(asked, query, topic, rule)

    def keeping(self, asked: Asked, query: Query) -> Keeping | None:
        """Who takes the answer; None where nothing of it may be kept."""
        unsure = query.embedding is None and query.category == asked.policy.default_category
        if unsure and asked.needs_embedding(is_named=False):
            asked.release()  # its category may be another, and forbid it
            return None
        if asked.may.mode is not CacheMode.OFF and asked.control.stores:
            if asked.may.mode is CacheMode.SEMANTIC and asked.flight is not None and query.embedding is not None:
                topic = self._topics.of(query.embedding, asked.form.text)
                self._together.begins(asked, self._question(asked, query.category, topic, query.embedding))
            return Keeping(self, asked, query)
        asked.release()
        return None

    def made(self, asked: Asked, query: Query, record: Record, body: bytes) -> Stored | None:
        """An answer as it is stored; None where it expires at once."""
        rule, _ = asked.policy.cache_rule(query.category)
        now = self._clock()
        ttl_s = min(one for one in (rule.ttl_s, asked.may.ttl_s, asked.control.ttl_s) if one is not None)
        vector = query.embedding if asked.may.mode is CacheMode.SEMANTIC else None
        topic = "" if vector is None else self._topics.of(vector, asked.form.text)
        stored = Stored(
            id=asked.promised_id or uuid4().hex,
            tenant=asked.tenant,
            partition=asked.partition,
            exact=asked.exact,
            category=query.category,
            body=body,
            model=record.model or "",
            endpoint=record.endpoint or "",
            created_s=now,
            expires_s=now + ttl_s,
            input_tokens=record.input_tokens or 0,
            output_tokens=record.output_tokens or 0,
            cost_nanousd=record.cost_nanousd or 0,
            tags=asked.control.tags,
            end_user=named(record.end_user) if record.end_user else None,
            text="" if vector is None else asked.form.text,
            topic=topic,
            vector=vector,
            embedder="" if vector is None else self._embedding.id,
            stale_s=self.adapting.kept_s(asked, rule, topic, ttl_s),
        )
        return None if self.forgetting.forbids(stored, asked.mark) else stored

    def keep(self, stored: Stored, policy: Policy) -> asyncio.Future[bool] | None:
        """Store it; nobody waits for that. See `collecting.Keeps`."""
        entries, size = self._room
        reserved = tuple((name, rule.reserve) for name, rule in policy.cache_rules.items() if rule.reserve)
        return self._beside(self._put(stored, Quota(entries, size, reserved), self.forgetting.mark))

    def used(self, hit: Hit, asked: Asked) -> None:
        """It was given out; nobody waits for the store to hear of it."""
        if hit.kind is CacheMode.SEMANTIC and asked.place is not None:
            self.trust.gave(asked.place, hit.stored.id)
        self.adapting.used(hit)
        self._beside(self._hit(hit.stored))

    def check(self, asked: Asked, hit: Hit, incoming: Incoming, anew: Anew) -> None:
        """It was given out by likeness; maybe it is checked, later."""
        if self.checks is not None:
            self.checks.after(asked, hit, incoming, anew)

    def _beside(self, work: Coroutine[None, None, Done]) -> asyncio.Task[Done] | None:
        if len(self._pending) >= MOST_PENDING:
            self.counts["left_undone"] += 1
            work.close()
            return None
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _drop(self, stored: Stored) -> None:
        with suppress(StoreAway):
            await self.store.drop(stored.tenant, [stored.id])

    async def _hit(self, stored: Stored) -> None:
        with suppress(StoreAway):
            await self.store.hit(stored)

    async def wrong(self, caller: Caller, stored_id: str) -> tuple[Told | None, int]:
        """Somebody got this answer for another question: forget it. What others are to be told, if anything, and how
        many there were; raises `StoreAway`."""
        tenant = tenant_of(caller, self._sharing)
        name = f"{tenant.kind}:{tenant.id}"
        dropped = await self.store.drop(name, [stored_id])
        self.counts["called_wrong"] += dropped
        self.trust.called_wrong(name, stored_id)
        return self.forgetting.to_tell(name, stored_id, dropped > 0), dropped

    @property
    def store(self) -> Store:
        """`StoreAway` where there is none."""
        if self._store is None:
            raise StoreAway
        return self._store

    def gauges(self) -> dict[str, float]:
        """Figures for operators."""
        found = {f"found_{name}": value for name, value in self._finder.figures().items()}
        checks = self.checks.counts if self.checks is not None else {}
        own = {"pending": len(self._pending), **self._together.figures(), **self.trust.figures()}
        own |= self.adapting.figures() | (self._store.figures() if self._store is not None else {})
        return {**self.counts, **found, **checks, **own}

    async def take_up(self, changes: Sequence[Change]) -> None:
        """What others have forgotten will be forgotten here too, and what they trust no more; raises
        `DatabaseUnavailable`."""
        self.forgetting.take_up(changes)
        await self.trust.take_up(changes)

    async def start(self) -> None:
        """Learn what is there."""
        if self._link is not None:
            await self._link.start()
        if self._store is not None:
            await self._store.start()
            self._tasks = [
                asyncio.create_task(work, name="cache-upkeep") for work in (self.forgetting.run(), self.trust.run())
            ]

    async def close(self) -> None:
        """Until what is on its way to the store is there."""
        if self.checks is not None:
            await self.checks.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.trust.close()
        await self.settled()
        if self._store is not None:
            await self._store.close()
        if self._link is not None:
            await self._link.close()

    async def settled(self) -> None:
        """Until what is on its way to the store is there."""
        while self._pending:
            await asyncio.wait(tuple(self._pending))

    async def _put(self, stored: Stored, quota: Quota, mark: int) -> bool:
        try:
            kept = await self.store.put(stored, quota)
            if kept and self.forgetting.forbids(stored, mark):  # it came after those that were forgotten just now
                await self.store.drop(stored.tenant, [stored.id])
                kept = False
        except StoreAway:
            self.counts["away"] += 1
            return False
        self.counts["kept" if kept else "not_kept"] += 1
        return kept

    async def _exact(self, asked: Asked) -> Hit | None:
        leases = self._together.leases if asked.control.stores else None
        try:
            if leases is None:
                found: Look = await self.store.exact(asked.tenant, asked.exact)
            else:
                found = await leases.look(asked.tenant, asked.exact)
        except StoreAway:
            self.counts["away"] += 1
            return None
        if isinstance(found, Stored):
            return self._search.usable(found, asked, CacheMode.EXACT, 1.0)
        asked.looked = found
        return None

    def _question(self, asked: Asked, category: str, topic: str, vector: Vector) -> Question:
        """As the search for what is being asked sees it."""
        text, embedder = asked.form.text, self._embedding.id
        return Question(asked.tenant, asked.partition, asked.exact, text, category, topic, vector, embedder)

    async def _soon(self, asked: Asked, question: Question, share: float) -> Hit | None:
        """The answer to what is being asked just now in other words."""

        def needed(cached: str) -> float | None:
            return self.trust.needed(asked.tenant, question.topic, cached, share)

        def allows(one: Asks) -> bool:
            return self._search.may(asked, question.topic, share, one)

        found = await self._together.alike(asked, question, needed, allows)
        return None if found is None else self._shared(found.word, asked, found.kind, found.probability)

    def _shared(self, word: Word, asked: Asked, kind: CacheMode, probability: float) -> Hit | None:
        """What another request's call has brought, whole or on its way."""
        if word.seat is not None:
            return Hit(word.seat.promised, kind, probability, 0.0, word.seat)
        return None if word.stored is None else self._search.usable(word.stored, asked, kind, probability)

    def _window(self) -> Window:
        facts = self._embedding.facts
        return Window() if facts is None else Window(facts.max_tokens, facts.count_tokens)
