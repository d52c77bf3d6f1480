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
from uuid import uuid4

from gateway.admission.rules import Caller
from gateway.cache.asked import Asked, Hit
from gateway.cache.base import Quota, Store, StoreAway, Stored
from gateway.cache.canonical import canonical
from gateway.cache.complete import Collector
from gateway.cache.control import control_of
from gateway.cache.eligibility import Window, allowed_by_category, allowed_by_form
from gateway.cache.flights import Flights
from gateway.cache.forgetting import Told, forget, named, told_by
from gateway.cache.identity import Scope, Sharing, fingerprints, group_of, key_line, tenant_of
from gateway.cache.index import LikenessIndex
from gateway.cache.replayed import readable
from gateway.cache.semantic import Match
from gateway.cache.topics import Topics
from gateway.embedding import Embedding
from gateway.errors import NotCached
from gateway.ledger.acts import Change
from gateway.ledger.record import Record
from gateway.meaning import Route
from gateway.redis_link import RedisLink
from gateway.wire.chat_request import ChatRequest
from policies.schema import CacheMode, Policy
from routers.decision import Query

log = logging.getLogger(__name__)

# How long after a store was away it is asked again to forget.
AGAIN_S = 1.0
# Answers on their way to the store; beyond that they are not kept.
MOST_PENDING = 256


class Keeping:
    """An answer on its way to the client, to be kept once it is whole; leads those who wait for the same."""

    def __init__(self, cache: Cache, asked: Asked, query: Query) -> None:
        self._cache = cache
        self._asked = asked
        self._query = query
        self._collector: Collector | None = None

    def feed(self, frame: bytes, dialect: str = "chat") -> None:
        """A frame as the client sees it."""
        if self._collector is None:
            self._collector = Collector(dialect, self._asked.request.stream)
        self._collector.feed(frame)
        if self._collector.gave_up:
            self._asked.release()

    def done(self, record: Record, *, length_is_own: bool = False) -> None:
        """All frames were there, or will not come."""
        stored = None
        try:
            stored = self._stored(record, length_is_own)
            if stored is not None:
                self._cache.keep(stored, self._asked.policy)
        except Exception:
            log.exception("the answer to %s could not be kept", record.id)
        if stored is None and record.status == 200:
            self._asked.release()
        else:
            self._asked.land(stored)

    def _stored(self, record: Record, length_is_own: bool) -> Stored | None:
        body = None
        if self._collector is not None and record.status == 200 and not record.budget_exhausted:
            tokens = record.input_tokens or 0, record.output_tokens or 0
            body = self._collector.whole(length_is_own=length_is_own, tokens=tokens)
        return self._cache.made(self._asked, self._query, record, body) if body is not None else None


class Cache:
    """One worker's."""

    def __init__(
        self,
        *,
        store: Store | None,
        finder: LikenessIndex,
        topics: Topics,
        embedding: Embedding,
        sharing: Sharing,
        room: tuple[int, int],
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
        self._flights = Flights()
        self._to_forget: asyncio.Queue[Told] = asyncio.Queue()
        self._forgets: asyncio.Task[None] | None = None
        self._pending: set[asyncio.Task[None]] = set()

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
        return Asked(request, policy, control, f"{tenant.kind}:{tenant.id}", form, partition, exact, may)

    async def repeat(self, asked: Asked) -> Hit | None:
        """The answer to an exact repeat; of requests that come at once all but the first wait for its answer."""
        if not asked.control.reads:
            return None
        hit = await self._exact(asked)
        if hit is not None or not asked.control.stores:
            return hit
        flight = self._flights.join(asked.exact)
        if not flight.leads:
            self.counts["waited"] += 1
            stored = await flight.answer()
            if stored is not None:
                return self._usable(stored, asked, CacheMode.EXACT, 1.0)
        asked.flight = flight if flight.leads else None
        return None

    async def like(self, asked: Asked, query: Query) -> Hit | None:
        """An answer to what certainly asks the same; before that the request is bounded by its category."""
        rule, decides = asked.policy.cache_rule(query.category)
        asked.may = allowed_by_category(asked.may, asked.request, asked.form, mode=rule.mode, category_decides=decides)
        if asked.may.mode is not CacheMode.SEMANTIC or query.embedding is None or not asked.control.reads:
            return None
        topic = self._topics.of(query.embedding, asked.form.text)
        found = self._finder.find(
            asked.tenant,
            asked.partition,
            asked.form.text,
            topic,
            query.embedding,
            self._embedding.id,
            self._clock(),
            lambda cached: self._topics.needed(topic, cached, rule.max_false_hit_share),
        )
        for match in found:
            hit = await self._likely(asked, match, topic, rule.max_false_hit_share)
            if hit is not None:
                return hit
        return None

    def keeping(self, asked: Asked, query: Query) -> Keeping | None:
        """Who takes the answer; None where nothing of it may be kept."""
        unsure = query.embedding is None and query.category == asked.policy.default_category
        if unsure and asked.needs_embedding(is_named=False):
            asked.release()  # its category may be another, and forbid it
            return None
        if asked.may.mode is not CacheMode.OFF and asked.control.stores:
            return Keeping(self, asked, query)
        asked.release()
        return None

    def made(self, asked: Asked, query: Query, record: Record, body: bytes) -> Stored | None:
        """An answer as it is stored; None where it expires at once."""
        rule, _ = asked.policy.cache_rule(query.category)
        now = self._clock()
        ttl_s = min(one for one in (rule.ttl_s, asked.may.ttl_s, asked.control.ttl_s) if one is not None)
        vector = query.embedding if asked.may.mode is CacheMode.SEMANTIC else None
        return Stored(
            id=uuid4().hex,
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
            topic="" if vector is None else self._topics.of(vector, asked.form.text),
            vector=vector,
            embedder="" if vector is None else self._embedding.id,
        )

    def keep(self, stored: Stored, policy: Policy) -> None:
        """Store it; nobody waits for that."""
        entries, size = self._room
        reserved = tuple((name, rule.reserve) for name, rule in policy.cache_rules.items() if rule.reserve)
        self._beside(self._put(stored, Quota(entries, size, reserved)))

    def used(self, hit: Hit) -> None:
        """It was given out; nobody waits for the store to hear of it."""
        self._beside(self._hit(hit.stored))

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        if len(self._pending) >= MOST_PENDING:
            self.counts["left_undone"] += 1
            work.close()
            return
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _drop(self, stored: Stored) -> None:
        with suppress(StoreAway):
            await self.store.drop(stored.tenant, [stored.id])

    async def _hit(self, stored: Stored) -> None:
        with suppress(StoreAway):
            await self.store.hit(stored)

    async def wrong(self, caller: Caller, stored_id: str) -> int:
        """Somebody got this answer for another question: forget it. How many there were; raises `StoreAway`."""
        tenant = tenant_of(caller, self._sharing)
        dropped = await self.store.drop(f"{tenant.kind}:{tenant.id}", [stored_id])
        self.counts["called_wrong"] += dropped
        return dropped

    @property
    def store(self) -> Store:
        """`StoreAway` where there is none."""
        if self._store is None:
            raise StoreAway
        return self._store

    def gauges(self) -> dict[str, float]:
        """Figures for operators."""
        found = {f"found_{name}": value for name, value in self._finder.figures().items()}
        return {**self.counts, **found, "pending": len(self._pending), "led": len(self._flights)}

    async def take_up(self, changes: Sequence[Change]) -> None:
        """What others have forgotten will be forgotten here too."""
        for told in told_by(changes, is_alone=self._link is None):
            self._to_forget.put_nowait(told)

    async def _forgetting(self) -> None:
        """One after the other, each until it is done: a store that is away does not keep what is to be forgotten."""
        while True:
            told = await self._to_forget.get()
            while True:
                try:
                    await forget(self.store, told.tenant, told.wanted)
                    break
                except StoreAway:
                    await asyncio.sleep(AGAIN_S)

    async def start(self) -> None:
        """Learn what is there."""
        if self._link is not None:
            await self._link.start()
        if self._store is not None:
            await self._store.start()
            self._forgets = asyncio.create_task(self._forgetting(), name="cache-forgetting")

    async def close(self) -> None:
        """Until what is on its way to the store is there."""
        if self._forgets is not None:
            self._forgets.cancel()
            await asyncio.wait({self._forgets})
        await self.settled()
        if self._store is not None:
            await self._store.close()
        if self._link is not None:
            await self._link.close()

    async def settled(self) -> None:
        """Until what is on its way to the store is there."""
        while self._pending:
            await asyncio.wait(tuple(self._pending))

    async def _put(self, stored: Stored, quota: Quota) -> None:
        try:
            self.counts["kept" if await self.store.put(stored, quota) else "not_kept"] += 1
        except StoreAway:
            self.counts["away"] += 1

    async def _exact(self, asked: Asked) -> Hit | None:
        try:
            stored = await self.store.exact(asked.tenant, asked.exact)
        except StoreAway:
            self.counts["away"] += 1
            return None
        return None if stored is None else self._usable(stored, asked, CacheMode.EXACT, 1.0)

    async def _likely(self, asked: Asked, match: Match, topic: str, share: float) -> Hit | None:
        """The candidate's answer, if its own category allows that as well."""
        try:
            stored = await self.store.get(asked.tenant, match.key)
        except StoreAway:
            self.counts["away"] += 1
            return None
        if stored is None:
            return None
        rule, _ = asked.policy.cache_rule(stored.category)
        needed = self._topics.needed(topic, stored.topic, min(share, rule.max_false_hit_share))
        if rule.mode is not CacheMode.SEMANTIC or needed is None or match.probability < needed:
            return None
        return self._usable(stored, asked, CacheMode.SEMANTIC, match.probability)

    def _usable(self, stored: Stored, asked: Asked, kind: CacheMode, probability: float) -> Hit | None:
        """What a store gave out is checked once more: a fault there must not show anybody another's answer."""
        now = self._clock()
        age_s = max(0.0, now - stored.created_s)
        oldest_s = asked.control.max_age_s
        same = kind is not CacheMode.EXACT or stored.exact == asked.exact
        if stored.tenant != asked.tenant or stored.partition != asked.partition or not same:
            self.counts["foreign"] += 1
            return None
        if not readable(stored.body):
            self.counts["unreadable"] += 1
            self._beside(self._drop(stored))
            return None
        if stored.expires_s <= now or (oldest_s is not None and age_s > oldest_s):
            return None
        return Hit(stored, kind, probability, age_s)

    def _window(self) -> Window:
        facts = self._embedding.facts
        return Window() if facts is None else Window(facts.max_tokens, facts.count_tokens)
