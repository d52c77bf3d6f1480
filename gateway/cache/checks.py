"""Shadow checks: of answers that were given by likeness a few are really asked for, once the client has its reply.

A check is a request of its own, of the same caller: admitted, metered, paid for and logged, but bounded so that nobody
misses what it takes. What it shows goes to `TrustBook`; how requests are answered is the pipeline's business.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter, time
from typing import Final

import numpy as np

from gateway.admission.gauges import GaugesUnavailable
from gateway.admission.rules import NO_RULES, Caller, Rules
from gateway.cache.agreement import agreement, read
from gateway.cache.asked import Asked, Hit
from gateway.cache.complete import Collector
from gateway.cache.funds import Funds
from gateway.cache.judging import ruling_of, to_judge
from gateway.cache.trust import TrustBook
from gateway.embedding import Embedding
from gateway.errors import GatewayError
from gateway.incoming import Incoming
from gateway.ledger.cache_evidence import Label, Place, Verdict
from gateway.ledger.record import Record
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import Reply
from policies.schema import CacheMode, CacheRule

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 4
# A check begins when the reply has long been written to its client, and has so long to end.
AFTER_S: Final = 0.05
LONGEST_S: Final = 120.0
_MOST_CALLERS: Final = 1024

# A request, asked as if there were no cache; of one model where that is named.
Anew = Callable[[ChatRequest, Incoming, str | None], Awaitable[Reply]]


class Checks:
    """One worker's. `logged` takes the records of calls that failed before there was a reply."""

    def __init__(
        self,
        *,
        trust: TrustBook,
        embedding: Embedding,
        funds: Funds,
        logged: Callable[[Record, float], None],
        rng: random.Random,
        after_s: float = AFTER_S,
    ) -> None:
        self._trust = trust
        self._embedding = embedding
        self._funds = funds
        self._logged = logged
        self._rng = rng
        self._after_s = after_s
        self._running: set[asyncio.Task[None]] = set()
        self._callers: dict[int, tuple[Caller, Caller]] = {}
        self.counts: Counter[str] = Counter()

    def after(self, asked: Asked, hit: Hit, incoming: Incoming, anew: Anew) -> None:
        """An answer was given by likeness; maybe it is checked. Never waits."""
        rule, _ = asked.policy.cache_rule(hit.stored.category)
        place, seated = asked.place, hit.seat is not None
        if hit.kind is not CacheMode.SEMANTIC or place is None or seated or not asked.control.stores:
            return
        if not rule.checked or self._rng.random() >= rule.checked:
            return
        if len(self._running) >= MOST_AT_ONCE:
            self.counts["checks_left_out"] += 1
            return
        task = asyncio.create_task(self._check(asked, hit, place, rule, incoming, anew), name="cache-check")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("cache: a bug has ended a check", exc_info=error)

    async def close(self) -> None:
        """End those that run."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def settled(self) -> None:
        """Until those that run have ended."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    async def _check(
        self, asked: Asked, hit: Hit, place: Place, rule: CacheRule, incoming: Incoming, anew: Anew
    ) -> None:
        await asyncio.sleep(self._after_s)
        caller = self._unhurried(incoming.caller)
        try:
            async with asyncio.timeout(LONGEST_S):
                if await self._funds.are_low(asked.policy, caller, incoming.record.tags or ()):
                    self.counts["checks_too_dear"] += 1
                    return
                await self._label(asked, hit, place, rule, replace(incoming, caller=caller), anew)
        except (GatewayError, GaugesUnavailable, TimeoutError) as error:
            self.counts["checks_failed"] += 1
            log.debug("cache: an answer could not be checked: %s", error)

    async def _label(
        self, asked: Asked, hit: Hit, place: Place, rule: CacheRule, incoming: Incoming, anew: Anew
    ) -> None:
        """Ask, compare, and tell what came out."""
        record = _record_of(incoming.record, "check", hit)
        fresh = await self._asked(asked.request, replace(incoming, record=record), anew, None)
        if fresh is None:
            self.counts["checks_failed"] += 1
            return
        question, kept = asked.form.text, hit.stored.body
        verdict = agreement(question, kept, fresh, await self._cosine(kept, fresh))
        if verdict == "undecided" and rule.judge is not None:
            verdict = await self._judged(rule.judge, asked, hit, fresh, incoming, anew)
        text, cached = (question, hit.stored.text) if asked.policy.log.prompts else (None, None)
        self._trust.checked(
            Label(record.id, time(), place, verdict, record.end_user, text, cached, score=hit.probability)
        )

    async def _judged(
        self, judge: str, asked: Asked, hit: Hit, fresh: bytes, incoming: Incoming, anew: Anew
    ) -> Verdict:
        request = to_judge(judge, asked.form.text, read(hit.stored.body)[0], read(fresh)[0])
        record = _record_of(incoming.record, "judge", hit)
        try:
            body = await self._asked(request, replace(incoming, record=record), anew, judge)
        except GatewayError:
            return "undecided"
        return "undecided" if body is None else ruling_of(read(body)[0])

    async def _asked(self, request: ChatRequest, incoming: Incoming, anew: Anew, model: str | None) -> bytes | None:
        """The whole answer; None where it does not come to a regular end."""
        record, started = incoming.record, perf_counter()
        fresh = Incoming(b"", incoming.caller, record, started, {})
        record.model_requested, record.stream = request.envelope.model, request.stream
        try:
            reply = await anew(request, fresh, model)
        except GatewayError as error:
            record.status, record.error_code = error.http_status, error.detail()["code"]
            if record.attempts:  # what was refused at the door was no request of anybody's
                self._logged(record, started)
            raise
        collector = Collector(reply.dialect, reply.stream)
        try:
            async for frame in reply.frames:
                collector.feed(frame)
        finally:
            await reply.frames.aclose()
        return collector.whole()

    async def _cosine(self, kept: bytes, fresh: bytes) -> float | None:
        """How near to each other two answers are; None where one of them is not wholly seen by the embedder."""
        facts, vectors = self._embedding.facts, []
        for text in (read(kept)[0], read(fresh)[0]):
            if not text or facts is None or facts.count_tokens(text) > facts.max_tokens:
                return None
            vectors.append(await self._embedding.of(text))
        first, second = vectors
        return None if first is None or second is None else float(np.dot(first, second))

    def _unhurried(self, caller: Caller) -> Caller:
        """The caller without rate limits: a check takes nothing of what it may ask in a minute. The same object each
        time, since admission knows rules by identity."""
        if not caller.rules.limits:
            return caller
        kept = self._callers.get(id(caller))
        if kept is None or kept[0] is not caller:
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            rules = Rules(caller.rules.budgets, ()) if caller.rules.budgets else NO_RULES
            kept = self._callers[id(caller)] = (caller, replace(caller, rules=rules))
        return kept[1]


def _record_of(first: Record, what: str, hit: Hit) -> Record:
    """The record of a check of a request; its id says of which."""
    return Record(
        id=f"{first.id}.{what}",
        at=time(),
        route=first.route,
        key_id=first.key_id,
        team_id=first.team_id,
        organisation_id=first.organisation_id,
        end_user=first.end_user,
        tags=first.tags,
        policy=first.policy,
        policy_sha256=first.policy_sha256,
        cache_status=what,
        cache_id=hit.stored.id,
        cache_score=first.cache_score,
    )
