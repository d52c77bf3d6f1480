"""The cache as the pipeline uses it: what a store says is checked once more, and nothing of it fails a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from gateway.cache.adapting import Adapting
from gateway.cache.asked import Asked
from gateway.cache.base import Quota, StoreAway, Stored, Wanted
from gateway.cache.cache import MOST_PENDING, Cache
from gateway.cache.canonical import canonical
from gateway.cache.control import NO_CONTROL
from gateway.cache.eligibility import allowed_by_form
from gateway.cache.forgetting import MOST_REMEMBERED, STRANGE_PER_S, Forgetting, Told
from gateway.cache.identity import Sharing
from gateway.cache.semantic import Match, Thresholds
from gateway.cache.together import Together
from gateway.cache.topics import Topics
from gateway.cache.trust import TrustBook
from gateway.dispatch.health import Health
from gateway.ledger.acts import CACHE, EVERYTHING, Change
from gateway.ledger.record import Record
from policies.schema import CacheMode, Policy
from routers.decision import Features, Query
from tests.eventually import eventually
from tests.unit.gateway.cache.bodies import request
from tests.unit.gateway.cache.sheet import Sheet

NOW = 1000.0
VECTOR = np.array([1.0, 0.0], dtype=np.float32)
BODY = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}'
ANSWER = Stored(
    "1", "key:k", "p", "x", "general", BODY, "m", "e", NOW - 5, NOW + 10, cost_nanousd=7, topic="chat", text="t"
)
POLICY = Policy.model_validate(
    {
        "schema": 1,
        "name": "p",
        "cache": {"mode": "semantic", "max_false_hit_share": 0.05},
        "category": [
            {"name": "strict", "examples": ["x"], "cache": {"mode": "semantic", "max_false_hit_share": 0.01}},
            {"name": "literal", "examples": ["x"], "cache": {"mode": "exact"}},
        ],
    }
)
SETTINGS = [(0.03, Thresholds({"chat": 0.97, "*": None})), (0.05, Thresholds({"chat": 0.9, "*": None}))]


class Shelf:
    """A store with one answer at most; away where it is told so."""

    def __init__(self, stored: Stored | None = ANSWER, away: bool = False) -> None:
        self.stored = stored
        self.away = away
        self.put_: list[Stored] = []
        self.dropped: list[str] = []

    async def exact(self, _tenant: str, _exact: str, _stale_s: float = 0.0) -> Stored | None:
        if self.away:
            raise StoreAway
        return self.stored

    get = exact

    async def put(self, stored: Stored, _quota: Quota) -> bool:
        if self.away:
            raise StoreAway
        self.put_.append(stored)
        return True

    async def start(self) -> None:
        """Nothing to begin."""

    close = start

    async def entries(self, _tenant: str, _wanted: Wanted) -> AsyncIterator[Stored]:
        if self.away:
            raise StoreAway
        if self.stored is not None:
            yield self.stored

    async def drop(self, _tenant: str, ids: Sequence[str]) -> int:
        self.dropped += ids
        return len(ids)


class Near:
    """A search that always finds the one answer."""

    def __init__(self, probability: float) -> None:
        self.match = Match("1", 0.9, probability)

    def find(self, *_: object) -> list[Match]:
        return [self.match]


def a_cache(shelf: Shelf, probability: float = 0.95) -> Cache:
    topics = Topics(lambda _vector, _text: "chat", lambda: SETTINGS)
    return Cache(
        store=cast(Any, shelf),
        finder=cast(Any, Near(probability)),
        topics=topics,
        trust=TrustBook(topics, Sheet()),
        embedding=cast(Any, type("E", (), {"id": "e/1", "facts": None})()),
        sharing=Sharing.KEY,
        room=(10, 10_000),
        together=Together(),
        adapting=Adapting(Health(lambda: NOW)),
        clock=lambda: NOW,
    )


def asked(**control: Any) -> Asked:
    found = request("Is it so?")
    form = canonical(found)
    may = allowed_by_form(found, form)
    return Asked(found, POLICY, replace(NO_CONTROL, **control), "key:k", form, "p", "x", may)


def query(category: str = "general") -> Query:
    return Query("Is it so?", features=Features(tokens=3, chars=9), embedding=VECTOR, category=category)


async def test_an_exact_repeat_is_found_with_its_age() -> None:
    hit = await a_cache(Shelf()).repeat(asked())

    assert hit is not None and (hit.kind, hit.probability, hit.age_s) == (CacheMode.EXACT, 1.0, 5.0)


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"tenant": "key:other"}, "foreign"),
        ({"partition": "q"}, "foreign"),
        ({"body": b"{"}, "unreadable"),
        ({"body": b'{"choices":[]}'}, "unreadable"),
        ({"expires_s": NOW}, None),
    ],
)
async def test_what_a_store_should_not_have_said_is_not_passed_on(change: dict[str, Any], counted: str | None) -> None:
    shelf = Shelf(replace(ANSWER, **change))
    cache = a_cache(shelf)

    assert await cache.repeat(asked()) is None
    await cache.settled()
    assert cache.counts[counted or "none"] == (counted is not None)
    assert shelf.dropped == (["1"] if counted == "unreadable" else [])


async def test_an_answer_may_be_too_old_for_a_request() -> None:
    cache = a_cache(Shelf())

    assert await cache.repeat(asked(max_age_s=4)) is None
    assert await cache.repeat(asked(max_age_s=5)) is not None


async def test_a_store_that_is_away_fails_nothing() -> None:
    shelf = Shelf(away=True)
    cache, one = a_cache(shelf), asked()

    assert await cache.repeat(one) is None and await cache.like(one, query()) is None
    keeping = cache.keeping(one, query())
    assert keeping is not None
    keeping.feed(BODY)
    keeping.done(Record(id="r", at=NOW, route="chat", status=200))
    await cache.settled()
    assert cache.counts["away"] == 3


@pytest.mark.parametrize(
    ("category", "theirs", "probability", "found"),
    [
        ("general", "general", 0.95, True),
        ("general", "general", 0.85, False),
        ("strict", "general", 0.99, False),
        ("general", "strict", 0.99, False),
        ("literal", "general", 0.99, False),
        ("general", "literal", 0.99, False),
    ],
)
async def test_the_stricter_rule_of_question_and_answer_holds(
    category: str, theirs: str, probability: float, found: bool
) -> None:
    cache = a_cache(Shelf(replace(ANSWER, category=theirs)), probability)

    hit = await cache.like(asked(), query(category))

    assert (hit is not None) == found


async def test_what_is_kept_is_what_paraphrases_need() -> None:
    shelf = Shelf(None)
    cache, one = a_cache(shelf), asked(tags=("v1",))
    await cache.repeat(one)
    await cache.like(one, query())
    keeping = cache.keeping(one, query())
    assert keeping is not None

    keeping.feed(BODY)
    keeping.done(Record(id="r", at=NOW, route="chat", status=200, model="m", cost_nanousd=9, end_user="ann"))
    await cache.settled()

    (kept,) = shelf.put_
    assert (kept.text, kept.topic, kept.embedder, kept.tags) == ("Is it so?", "chat", "e/1", ("v1",))
    assert (kept.cost_nanousd, kept.expires_s) == (9, NOW + POLICY.cache.ttl_s)
    assert kept.end_user is not None and "ann" not in kept.end_user


async def test_a_slow_store_holds_no_more_than_a_bounded_number_of_answers() -> None:
    cache = a_cache(Shelf(None))

    for _ in range(MOST_PENDING + 5):
        cache.keep(ANSWER, POLICY)
    await asyncio.sleep(0)

    assert cache.counts["left_undone"] == 5
    await cache.settled()


def test_of_settings_the_loosest_that_is_certified_for_a_share_counts() -> None:
    topics = Topics(lambda _vector, _text: "chat", lambda: SETTINGS)

    assert [topics.needed("chat", "chat", share) for share in (0.02, 0.03, 0.04, 0.05, 0.2)] == [
        None,
        0.97,
        0.97,
        0.9,
        0.9,
    ]
    assert topics.needed("chat", "else", 0.05) is None


async def test_who_waits_for_a_leader_that_keeps_nothing_asks_for_itself() -> None:
    cache, leader, follower = a_cache(Shelf(None)), asked(), asked()
    assert await cache.repeat(leader) is None
    waits = asyncio.create_task(cache.repeat(follower))
    await asyncio.sleep(0)
    keeping = cache.keeping(leader, query())
    assert keeping is not None

    keeping.feed(b"{}", dialect="completions")

    assert await asyncio.wait_for(waits, 5) is None and follower.flight is None


async def test_an_answer_by_likeness_is_no_exact_repeat_for_those_who_wait() -> None:
    cache, leader, follower = a_cache(Shelf(None)), asked(), asked()
    await cache.repeat(leader)
    waits = asyncio.create_task(cache.repeat(follower))
    await asyncio.sleep(0)

    leader.land(replace(ANSWER, exact="another"))

    assert await asyncio.wait_for(waits, 5) is None


async def test_what_may_be_of_a_category_that_is_not_known_is_not_kept() -> None:
    cache, one = a_cache(Shelf(None)), asked()

    assert cache.keeping(one, replace(query(), embedding=None)) is None


async def test_what_is_to_be_forgotten_is_forgotten_once_the_store_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cache.forgetting.AGAIN_S", 0.001)
    shelf = Shelf(away=True)
    cache = a_cache(shelf)
    await cache.start()
    wanted = msgspec.json.encode(Told("key:k", Wanted(ids=("1",)))).decode()

    await cache.take_up([Change(CACHE, wanted)])
    await asyncio.sleep(0.01)
    assert not shelf.dropped
    shelf.away = False

    await eventually(lambda: shelf.dropped == ["1"])
    await cache.close()


def told(**which: Any) -> list[Change]:
    """A wish of somebody's, as it is heard."""
    return [Change(CACHE, msgspec.json.encode(Told(**which)).decode())]


@pytest.mark.parametrize(
    ("which", "is_kept"),
    [
        ({}, False),
        ({"tenant": "key:k"}, False),
        ({"tenant": "key:other"}, True),
        ({"wanted": Wanted(category="general")}, False),
        ({"wanted": Wanted(category="strict")}, True),
        ({"wanted": Wanted(older_s=NOW - 1)}, True),
    ],
)
async def test_what_is_forgotten_while_an_answer_is_on_its_way_is_not_kept(
    which: dict[str, Any], is_kept: bool
) -> None:
    cache, record = a_cache(Shelf(None)), Record("r", NOW, "chat", model="m")
    first = asked_now(cache)

    await cache.take_up(told(**which))

    assert (cache.made(first, query(), record, BODY) is not None) == is_kept
    assert cache.made(asked_now(cache), query(), record, BODY) is not None


async def test_an_answer_that_reaches_the_store_after_its_like_was_forgotten_is_taken_out_again() -> None:
    shelf = Shelf(None)
    cache = a_cache(shelf)

    cache.keep(ANSWER, POLICY)
    await cache.take_up(told(tenant="key:k"))
    await cache.settled()

    assert shelf.put_ == [ANSWER] and shelf.dropped == ["1"]


async def test_who_shares_a_store_and_may_have_missed_a_wish_keeps_nothing_that_was_on_its_way() -> None:
    cache, record = a_cache(Shelf(None)), Record("r", NOW, "chat", model="m")
    cache.forgetting.is_alone = False
    first = asked_now(cache)

    await cache.take_up([Change(EVERYTHING)])

    assert cache.made(first, query(), record, BODY) is None


async def test_more_wishes_than_are_remembered_count_as_any() -> None:
    cache, record = a_cache(Shelf(None)), Record("r", NOW, "chat", model="m")
    first = asked_now(cache)

    await cache.take_up(told(tenant="key:other") * (MOST_REMEMBERED + 1))

    assert cache.made(first, query(), record, BODY) is None


async def test_others_are_told_of_few_ids_that_nobody_knows() -> None:
    cache = a_cache(Shelf(None))
    forgetting = Forgetting(cache.store, cache.trust, is_alone=True, clock=lambda: 7.0)

    heard = [forgetting.to_tell("key:k", str(number), is_known=False) for number in range(2 * STRANGE_PER_S)]

    assert sum(one is not None for one in heard) == STRANGE_PER_S
    assert forgetting.to_tell("key:k", "1", is_known=True) == Told("key:k", Wanted(ids=("1",)), wrong=True)
    shared = Forgetting(cache.store, cache.trust, is_alone=False)
    assert shared.to_tell("key:k", "1", is_known=False) is None


def asked_now(cache: Cache) -> Asked:
    """A request that is asked now."""
    return replace(asked(), mark=cache.forgetting.mark)
