"""What load allows, by clocks moved by hand: through the cache itself, with a search that finds one answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.cache.adapting import GOOD_S, Adapting, may_be_answered
from gateway.cache.asked import Asked
from gateway.cache.base import Quota, Stored, Wanted
from gateway.cache.cache import Cache
from gateway.cache.canonical import canonical
from gateway.cache.collecting import Keeping
from gateway.cache.control import NO_CONTROL
from gateway.cache.eligibility import allowed_by_form
from gateway.cache.identity import Sharing
from gateway.cache.memory_store import MemoryStore
from gateway.cache.semantic import Match, Needed, Thresholds
from gateway.cache.together import Together
from gateway.cache.topics import Topics
from gateway.cache.trust import TrustBook
from gateway.dispatch.health import Health
from gateway.dispatch.load import FALLS_IN_S, HELD_S
from gateway.dispatch.strain import Strain
from gateway.errors import (
    AddressForbidden,
    BudgetExceeded,
    GatewayError,
    InvalidRequest,
    NoEndpoint,
    RateLimited,
    UpstreamAuth,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.ledger.record import Record
from policies.schema import CacheRule, Policy
from routers.decision import Features, Query
from tests.unit.gateway.cache.bodies import request
from tests.unit.gateway.cache.sheet import Sheet
from tests.unit.gateway.dispatch.calls import target

VECTOR = np.array([1.0, 0.0], dtype=np.float32)
BODY = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}'
SETTINGS = [(share, Thresholds({"chat": at, "*": None})) for share, at in ((0.02, 0.99), (0.05, 0.96), (0.1, 0.9))]
SETTINGS += [(0.2, Thresholds({"chat": 0.5, "*": None}))]
QUESTION = "Is it so?"
TTL_S, STALE_S = 100.0, 500.0
ROOM = Quota(10, 100_000)
TARGETS = (target("e", cast(Any, None)),)


def policy(**cache: Any) -> Policy:
    rule = {"mode": "semantic", "ttl_s": TTL_S, "max_false_hit_share": 0.02, **cache}
    return Policy.model_validate({"schema": 1, "name": "p", "cache": rule})


ADAPTS = policy(max_false_hit_share_under_load=0.1, stale_s=STALE_S)


@dataclass
class World:
    """A cache with a clock of its own, one endpoint, and how likely the search takes what it finds."""

    probability: float = 0.92
    now_s: float = 1000.0
    needed: list[float | None] = field(default_factory=list)
    kept: Stored | None = None

    def __post_init__(self) -> None:
        self.health = Health(lambda: self.now_s)
        topics = Topics(lambda _vector, _text: "chat", lambda: SETTINGS)
        self.cache = Cache(
            store=MemoryStore(cast(Any, self), lambda: self.now_s),
            finder=cast(Any, self),
            topics=topics,
            trust=TrustBook(topics, Sheet()),
            embedding=cast(Any, type("E", (), {"id": "e/1", "facts": None})()),
            sharing=Sharing.KEY,
            room=(10, 100_000),
            together=Together(),
            adapting=Adapting(self.health, lambda: self.now_s),
            clock=lambda: self.now_s,
        )

    def find(self, *given: Any) -> list[Match]:
        """See `LikenessIndex.find`."""
        needed: Needed = given[7]
        self.needed.append(least := needed("chat"))
        found = self.kept is not None and least is not None and self.probability >= least
        return [Match(self.kept.id, 0.9, self.probability)] if found and self.kept is not None else []

    def added(self, known: Any) -> None:
        """See `Listener`."""

    def dropped(self, tenant: str, ids: Any) -> None:
        """See `Listener`."""

    def figures(self) -> dict[str, float]:
        return {}

    async def keeps(self, one: Asked) -> None:
        """An answer is made for it and stored."""
        keeping = self.cache.keeping(one, query())
        assert isinstance(keeping, Keeping)
        keeping.feed(BODY)
        keeping.done(Record(id="r", at=self.now_s, route="chat", status=200))
        await self.cache.settled()
        found = [row async for row in self.cache.store.entries("key:k", Wanted())]
        self.kept = found[0] if found else None

    def loaded(self, level: float = 1.0) -> None:
        """Endpoints are put to it so much that policies adapt so far."""
        share = (0.7 + 0.31 * level) / 10
        strain = self.health.of("e").strain
        for number in range(1000):
            if number < 1000 * share:
                strain.failed(self.now_s)
            else:
                strain.succeeded(self.now_s, 10.0)


def asked(question: str = QUESTION, over: Policy = ADAPTS, exact: str = "x", **control: Any) -> Asked:
    found = request(question)
    form = canonical(found)
    may = allowed_by_form(found, form)
    return Asked(found, over, replace(NO_CONTROL, **control), "key:k", form, "p", exact, may, targets=TARGETS)


def query() -> Query:
    return Query(QUESTION, features=Features(tokens=3, chars=9), embedding=VECTOR, category="general")


async def test_an_answer_that_is_certain_enough_under_load_is_given_under_load_only_and_says_so() -> None:
    world = World()
    await world.keeps(asked())
    calm = await world.cache.like(asked(exact="y"), query())
    world.loaded()
    world.now_s += 2 * GOOD_S

    hit = await world.cache.like(one := asked(exact="y"), query())

    assert calm is None and hit is not None and hit.loosened and hit.stale_s == 0
    assert hit.note.startswith("the load is 1.00; up to 10 %")
    assert one.place is not None and one.place.share == 0.1
    world.cache.used(hit, one)
    await world.cache.settled()
    figures = world.cache.gauges()
    assert figures["given_under_load"] == figures["groups_busy"] == 1 and figures["false_hit_share_most"] == 0.1


async def test_what_is_certain_enough_anyway_is_given_as_ever_and_counts_where_it_always_does() -> None:
    world = World(probability=0.995)
    await world.keeps(asked())
    world.loaded()

    hit = await world.cache.like(one := asked(exact="y"), query())

    assert hit is not None and not hit.loosened and hit.note == ""
    assert one.place is not None and one.place.share == 0.02


@given(
    level=st.floats(0, 1),
    probability=st.floats(0, 1),
    usual=st.floats(0, 0.2),
    more=st.floats(0, 0.2),
    instead=st.booleans(),
)
async def test_nothing_is_given_below_the_threshold_that_is_certified_for_the_share_under_load(
    level: float, probability: float, usual: float, more: float, instead: bool
) -> None:
    most = min(usual + more, 1.0)
    over = policy(max_false_hit_share=usual, max_false_hit_share_under_load=most)
    world = World(probability)
    await world.keeps(asked(over=over))
    world.loaded(level)
    world.now_s += 2 * GOOD_S

    hit = await (world.cache.instead if instead else world.cache.like)(asked(over=over, exact="y"), query())

    certified = [at.of("chat", "chat") for share, at in SETTINGS if share <= most]
    least = min((one for one in certified if one is not None), default=2.0)
    assert all(one is None or one >= least for one in world.needed)
    assert hit is None or probability >= least


async def test_between_normal_and_full_load_the_next_certified_setting_counts() -> None:
    world = World()
    await world.keeps(asked())
    world.loaded(0.5)

    await world.cache.like(asked(exact="y"), query())

    assert world.needed == [0.96]


async def test_a_stricter_category_of_the_answer_holds_under_load_too() -> None:
    world = World()
    strict = {"name": "strict", "examples": ["x"], "cache": {"mode": "semantic", "max_false_hit_share": 0.02}}
    both = Policy.model_validate(ADAPTS.model_dump(by_alias=True, mode="json") | {"category": [strict]})
    await world.keeps(asked(over=both))
    assert world.kept is not None
    world.loaded()
    free = await world.cache.like(asked(over=both, exact="y"), query())
    await world.cache.store.put(replace(world.kept, category="strict"), ROOM)

    assert free is not None and await world.cache.like(asked(over=both, exact="y"), query()) is None


async def test_an_old_answer_is_given_under_load_until_its_window_ends() -> None:
    world = World()
    await world.keeps(asked())
    world.now_s += TTL_S + 1
    calm = await world.cache.like(asked(), query())
    world.loaded()
    world.now_s += 2 * GOOD_S

    hit = await world.cache.like(asked(), query())
    world.now_s += STALE_S
    world.loaded()
    late = await world.cache.like(asked(), query())

    assert calm is None and hit is not None and hit.stale_s == pytest.approx(1 + 2 * GOOD_S)
    assert hit.note == "the load is 1.00; it expired 1 s ago" and late is None


@pytest.mark.parametrize(
    ("question", "control", "found"),
    [
        (QUESTION, {}, True),
        ("What do I owe?", {}, False),
        ("Who won the cup?", {}, False),
        (QUESTION, {"max_age_s": 10_000}, False),
        (QUESTION, {"stale_s": 0.5}, False),
        (QUESTION, {"stale_s": 5.0, "max_age_s": 10_000}, True),
        (QUESTION, {"stale_s": 5.0, "max_age_s": 3}, False),
        (QUESTION, {"reads": False}, False),
    ],
)
async def test_who_gets_an_old_answer_in_place_of_an_error(question: str, control: dict[str, Any], found: bool) -> None:
    world = World()
    await world.keeps(one := asked(question))
    assert world.kept is not None
    await world.cache.store.put(replace(world.kept, stale_s=STALE_S), ROOM)
    world.now_s = world.kept.expires_s + 1
    again = replace(one, control=replace(NO_CONTROL, **control))
    await world.cache.like(again, query())

    assert (await world.cache.instead(again, query()) is not None) == found


@pytest.mark.parametrize(
    ("question", "control", "kept_s"),
    [
        (QUESTION, {}, STALE_S),
        ("What do I owe?", {}, 0.0),
        ("Who won the cup?", {}, 0.0),
        (QUESTION, {"ttl_s": 50}, 0.0),
        (QUESTION, {"ttl_s": 130}, 30.0),
    ],
)
async def test_an_answer_is_kept_stale_for_no_longer_than_policy_and_request_say(
    question: str, control: dict[str, Any], kept_s: float
) -> None:
    world = World()
    one = asked(question, **control)
    await world.cache.like(one, query())

    await world.keeps(one)

    assert world.kept is not None and world.kept.stale_s == kept_s


async def test_a_policy_without_leeway_does_not_look_at_load() -> None:
    world = World()
    world.loaded()

    for one in (asked(over=policy()), asked(over=policy(max_false_hit_share_under_load=0.02))):
        assert await world.cache.like(one, query()) is None and await world.cache.instead(one, query()) is None

    assert "groups_busy" not in {name for name, value in world.cache.gauges().items() if value}


async def test_load_that_nobody_asks_about_calms_down_in_the_figures() -> None:
    world = World()
    world.loaded()
    await world.cache.like(asked(), query())
    busy = world.cache.gauges()["load_most"]
    world.now_s += 60

    assert busy == 1.0 and world.cache.gauges()["load_most"] < 0.01


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (UpstreamLimited("x"), True),
        (UpstreamUnavailable("x"), True),
        (UpstreamTimeout("x"), True),
        (NoEndpoint("x"), True),
        (RateLimited("x"), False),
        (BudgetExceeded("x"), False),
        (InvalidRequest("x"), False),
        (UpstreamAuth("x"), False),
        (AddressForbidden("x"), False),
    ],
)
def test_only_what_is_not_the_callers_doing_and_may_pass_is_answered(error: GatewayError, found: bool) -> None:
    assert may_be_answered(error) == found


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"mode": "semantic", "max_false_hit_share_under_load": 0.01}, r"at least max_false_hit_share \(0.05\)"),
        ({"mode": "exact", "max_false_hit_share_under_load": 0.1}, "only where mode is 'semantic'"),
        ({"mode": "exact", "stale_s": -1}, "stale_s"),
        ({"mode": "exact", "stale_s": 31 * 86_400}, "stale_s"),
    ],
)
def test_a_rule_that_load_would_tighten_is_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CacheRule.model_validate(rule)


async def test_who_waits_for_another_waits_longer_by_the_level_of_load_and_as_long_as_that_is_held() -> None:
    world = World()
    patience = world.cache.adapting.patience_s
    plain = asked(over=policy())
    calm = patience(plain, 20.0)
    world.loaded(0.5)
    world.now_s += 2 * GOOD_S
    half = patience(plain, 20.0)
    world.health.of("e").strain = Strain()
    world.loaded()
    world.now_s += 2 * GOOD_S
    full = patience(plain, 20.0)
    world.health.of("e").strain = Strain()  # all is well again at once

    held, later = [], world.now_s
    for after_s in (1.0, HELD_S, HELD_S + FALLS_IN_S / 2, HELD_S + FALLS_IN_S + 1):
        world.now_s = later + 2 * GOOD_S + after_s
        held.append(patience(plain, 20.0))

    assert calm == 20 and 35 < half < 45 and full == 60
    assert held[0] == 60 and 20 < held[2] < 60 and held[3] == 20
