"""What of the answers that are kept a request may be given: none that is another's, too old or not certain enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gateway.cache.adapting import eased
from gateway.cache.asked import CALM, Asked, Hit
from gateway.cache.asking import Asks
from gateway.cache.base import Store, StoreAway, Stored
from gateway.cache.index import LikenessIndex
from gateway.cache.replayed import readable
from gateway.cache.semantic import Match
from gateway.cache.topics import Topics
from gateway.cache.trust import TrustBook
from gateway.embedding import Embedding
from policies.schema import CacheMode, CacheRule
from routers.decision import Query


class Searching:
    """One worker's. `counts` are the cache's, `drop` is called for an answer that is of no use to anybody."""

    def __init__(
        self,
        *,
        store: Store | None,
        finder: LikenessIndex,
        topics: Topics,
        trust: TrustBook,
        embedding: Embedding,
        counts: Counter[str],
        clock: Callable[[], float],
        drop: Callable[[Stored], object],
    ) -> None:
        self._store = store
        self._finder = finder
        self._topics = topics
        self._trust = trust
        self._embedding = embedding
        self._counts = counts
        self._clock = clock
        self._drop = drop

    def topic(self, asked: Asked, query: Query) -> str:
        """What the question is about; empty where it is not answered by likeness."""
        if asked.may.mode is not CacheMode.SEMANTIC or query.embedding is None:
            return ""
        return self._topics.of(query.embedding, asked.form.text)

    async def kept(self, asked: Asked, query: Query, topic: str, rule: CacheRule) -> Hit | None:
        """What is kept and may be given, by the request's leeway: its own old answer, or the likeliest one."""
        leeway, share = asked.leeway, rule.share_at(asked.leeway.level)
        if leeway.stale_s:
            hit = await self._old(asked, rule)
            if hit is not None:
                return hit
        if not topic:
            return None
        asked.place = self._trust.place(asked.tenant, topic, rule.max_false_hit_share)
        found = self._finder.find(
            asked.tenant,
            asked.partition,
            asked.form.text,
            topic,
            query.embedding,
            self._embedding.id,
            self._clock(),
            lambda cached: self._trust.needed(asked.tenant, topic, cached, share),
            leeway.stale_s,
        )
        for match in found:
            hit = await self._likely(asked, match, topic, rule)
            if hit is not None:
                return hit
        return None

    async def _old(self, asked: Asked, rule: CacheRule) -> Hit | None:
        """The answer to an exact repeat, which may have expired."""
        try:
            stored = (
                None
                if self._store is None
                else await self._store.exact(asked.tenant, asked.exact, asked.leeway.stale_s)
            )
        except StoreAway:
            self._counts["away"] += 1
            return None
        hit = None if stored is None else self.usable(stored, asked, CacheMode.EXACT, 1.0)
        return None if hit is None else eased(hit, asked.leeway, rule, self._clock())

    async def _likely(self, asked: Asked, match: Match, topic: str, rule: CacheRule) -> Hit | None:
        """The candidate's answer, if its own category allows that as well."""
        leeway, share = asked.leeway, rule.share_at(asked.leeway.level)
        try:
            stored = None if self._store is None else await self._store.get(asked.tenant, match.key, leeway.stale_s)
        except StoreAway:
            self._counts["away"] += 1
            return None
        if stored is None:
            return None
        found = Asks(stored.exact, stored.category, stored.topic, match.probability)
        loosened = not self.may(asked, topic, rule.max_false_hit_share, found)
        if loosened and not (leeway.level and self.may(asked, topic, share, found, leeway.level)):
            return None
        hit = self.usable(stored, asked, CacheMode.SEMANTIC, match.probability)
        if hit is None or leeway is CALM:
            return hit
        if loosened:
            asked.place = self._trust.place(asked.tenant, topic, share)
        return eased(hit, leeway, rule, self._clock(), loosened=loosened)

    def may(self, asked: Asked, topic: str, share: float, found: Asks, level: float = 0.0) -> bool:
        """Whether the category of what is found allows that as well, under so much load."""
        rule, _ = asked.policy.cache_rule(found.category)
        needed = self._trust.needed(asked.tenant, topic, found.topic, min(share, rule.share_at(level)))
        return rule.mode is CacheMode.SEMANTIC and needed is not None and found.probability >= needed

    def usable(self, stored: Stored, asked: Asked, kind: CacheMode, probability: float) -> Hit | None:
        """What a store gave out is checked once more: a fault there must not show anybody another's answer."""
        now = self._clock()
        age_s = max(0.0, now - stored.created_s)
        oldest_s = asked.control.max_age_s
        same = kind is not CacheMode.EXACT or stored.exact == asked.exact
        if stored.tenant != asked.tenant or stored.partition != asked.partition or not same:
            self._counts["foreign"] += 1
            return None
        if not readable(stored.body):
            self._counts["unreadable"] += 1
            self._drop(stored)
            return None
        if not stored.lives(now, asked.leeway.stale_s) or (oldest_s is not None and age_s > oldest_s):
            return None
        return Hit(stored, kind, probability, age_s)
