"""Who may answer: capability, context, budget and recent failures."""

from dataclasses import replace

import pytest

from gateway.dispatch.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_S, PAUSE_S, State
from gateway.dispatch.eligible import eligible
from gateway.dispatch.health import Health
from gateway.providers.base import Target
from policies.catalogue import Endpoint, Modality, ModelCard
from policies.schema import Policy
from routers.decision import Features
from tests.fakes import FakeProvider

POLICY = Policy(schema=1, name="p")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def target(name: str = "a", **card: object) -> Target:
    facts = {"id": name, "context_tokens": 1000, "price_in_usd_per_mtok": 1, "price_out_usd_per_mtok": 1} | card
    row = Endpoint(id=f"{name}-1", model=name, provider="openai", base_url="http://127.0.0.1:9/v1")
    return Target(endpoint=row, card=ModelCard.model_validate(facts), provider=FakeProvider())


@pytest.mark.parametrize(
    ("features", "word"),
    [
        (Features(tokens=1000, chars=4000), "context"),
        (Features(tokens=10, chars=40, tools=True), "tools"),
        (Features(tokens=10, chars=40, json_schema=True), "JSON schema"),
        (Features(tokens=10, chars=40, logprobs=True), "logprobs"),
        (Features(tokens=10, chars=40, modalities=frozenset({Modality.TEXT, Modality.IMAGE})), "image"),
    ],
)
def test_a_model_that_cannot_is_left_out_with_the_reason(features: Features, word: str) -> None:
    found = eligible(features, [target()], POLICY, Health(Clock()))

    assert not found.candidates
    assert word in found.excluded["a-1"]


class Line:
    """A queue of so many milliseconds."""

    def __init__(self, ms: float) -> None:
        self.ms = ms

    def wait_ms(self, wire_model: str) -> float:
        return self.ms


def test_standing_in_line_is_part_of_the_expected_latency() -> None:
    health = Health(Clock())
    health.succeeded("a-1", 40.0)
    busy = replace(target(), queue=Line(250.0))

    found = eligible(Features(tokens=10, chars=40), [busy, target("b")], POLICY, health)

    assert [one.latency_ms for one in found.candidates] == [290.0, found.candidates[1].endpoint.typical_latency_ms]


def test_a_call_that_could_cost_too_much_is_left_out() -> None:
    policy = Policy.model_validate({"schema": 1, "name": "p", "budget": {"max_cost_usd_per_request": 0.0001}})
    features = Features(tokens=10, chars=40, max_output_tokens=90)

    assert eligible(features, [target()], policy, Health(Clock())).candidates
    dear = eligible(features, [target(price_out_usd_per_mtok=2)], policy, Health(Clock()))
    unpriced = eligible(features, [target(price_out_usd_per_mtok=None)], policy, Health(Clock()))

    assert "could cost" in dear.excluded["a-1"]
    assert "no price" in unpriced.excluded["a-1"]


def test_failures_in_a_row_pause_an_endpoint_and_time_ends_the_pause() -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(FAILURES_TO_OPEN - 1):
        health.failed("a-1")
    assert health.paused_s("a-1") == 0

    health.failed("a-1")

    assert health.paused_s("a-1") == PAUSE_S
    clock.now += PAUSE_S
    assert health.paused_s("a-1") == 0


def test_pauses_grow_to_a_bound_and_a_success_ends_them() -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(2000):
        health.failed("a-1")
        clock.now += health.paused_s("a-1")
    health.failed("a-1")
    assert health.paused_s("a-1") == LONGEST_PAUSE_S

    health.succeeded("a-1", 10)

    assert health.paused_s("a-1") == 0
    assert health.latency_ms("a-1") == 10


def test_calls_made_in_spite_of_a_pause_do_not_lengthen_it() -> None:
    health = Health(Clock())
    news = [health.failed("a-1") for _ in range(10)]

    assert health.paused_s("a-1") == PAUSE_S
    assert news == [True, False, True] + [False] * 7


def test_an_upstream_is_believed_when_it_says_come_back_later() -> None:
    health = Health(Clock())

    health.failed("a-1", retry_after_s=7)

    assert health.paused_s("a-1") == 7


def test_a_paused_endpoint_is_passed_over_while_another_is_well() -> None:
    health = Health(Clock())
    health.failed("a-1", retry_after_s=30)

    both = eligible(Features(tokens=1, chars=4), [target("a"), target("b")], POLICY, health)
    alone = eligible(Features(tokens=1, chars=4), [target("a")], POLICY, health)

    assert [one.endpoint.id for one in both.candidates] == ["b-1"]
    assert [one.endpoint.id for one in alone.candidates] == ["a-1"]
    assert alone.excluded == {}


def test_what_is_told_begins_and_ends_with_a_pause() -> None:
    told: list[tuple[str, float]] = []
    health = Health(Clock())
    health.told = lambda endpoint, pause_s: told.append((endpoint, pause_s))

    for _ in range(FAILURES_TO_OPEN):
        health.failed("a-1")
    health.alive("a-1")
    health.failed("b-1", retry_after_s=7)

    assert told == [("a-1", PAUSE_S), ("a-1", 0.0), ("b-1", 7.0)]


def test_the_breakers_in_each_state_can_be_counted() -> None:
    clock = Clock()
    health = Health(clock)
    health.succeeded("well", 10)
    for _ in range(FAILURES_TO_OPEN):
        health.failed("ill")

    assert health.in_state(State.OPEN) == {"well": 0.0, "ill": 1.0}
    assert health.in_state(State.HALF_OPEN) == {"well": 0.0, "ill": 0.0}
    clock.now += PAUSE_S
    assert health.in_state(State.OPEN) == {"well": 0.0, "ill": 0.0}
    assert health.in_state(State.HALF_OPEN) == {"well": 0.0, "ill": 1.0}


def test_the_tail_of_latencies_is_somewhat_above_the_mean() -> None:
    health = Health(Clock())
    assert health.of("a").p95_ms() == 0

    for _ in range(50):
        for latency_ms in (90.0, 110.0):
            health.succeeded("a", latency_ms)

    assert 110 < health.of("a").p95_ms() < 130


def test_load_is_latency_times_calls_and_what_was_slow_long_ago_is_given_a_chance() -> None:
    clock = Clock()
    health = Health(clock)
    health.succeeded("fast", 100)
    health.succeeded("slow", 900)
    health.of("fast").in_flight = 1
    endpoints = [health.of(name) for name in ("fast", "slow", "new")]

    assert health.loads(endpoints) == [200, 900, 100]
    clock.now += 300
    assert health.loads(endpoints)[1] < 101
    assert Health(clock).loads([health.of("new")]) == [1.0]
