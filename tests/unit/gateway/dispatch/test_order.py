"""From a decision to the order of calls: the model's endpoints by load or by session, then the policy's fallbacks."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from gateway.dispatch.health import Health
from gateway.providers.base import Target
from policies.schema import Policy
from routers.decision import Ranked
from tests.fakes import FakeProvider
from tests.unit.gateway.dispatch.calls import decision, dispatcher, target

POLICY = Policy(schema=1, name="p")
SESSION = "00c0ffee00c0ffee"


def policy(*models: str) -> Policy:
    return Policy.model_validate({"schema": 1, "name": "p", "fallback": {"models": models}})


def ids(order: list[Ranked]) -> list[str]:
    return [one.candidate.endpoint.id for one in order]


def endpoints(model: str, *names: str, weight: float = 1.0) -> list[Target]:
    return [target(name, FakeProvider(), model=model, weight=weight) for name in names]


def test_fallback_models_come_right_after_the_chosen_one() -> None:
    targets = [target(name, FakeProvider()) for name in "abcd"]

    order = dispatcher(*targets).order(decision(*targets), policy("model-d", "model-c"), None)

    assert ids(order) == ["a", "d", "c", "b"]


def test_models_that_the_request_names_stay_in_its_order() -> None:
    targets = [target(name, FakeProvider()) for name in "abcd"]

    order = dispatcher(*targets).order(decision(*targets, kind="pinned"), policy("model-d"), None)

    assert ids(order) == ["a", "b", "c", "d"]


def test_endpoints_of_the_chosen_model_come_first_with_the_models_propensity() -> None:
    m1, m2 = endpoints("m", "m1", "m2")
    other = target("other", FakeProvider())

    order = dispatcher(m1, m2, other).order(decision(m1, other, m2, propensities=[0.6, 0.1, 0.3]), POLICY, None)

    assert set(ids(order)[:2]) == {"m1", "m2"} and ids(order)[2] == "other"
    assert [one.propensity for one in order] == pytest.approx([0.9, 0.9, 0.1])
    assert order[0].note.startswith(f"Of 2 endpoints '{ids(order)[0]}'")


def test_the_only_endpoint_of_its_model_is_left_as_it_is() -> None:
    made = decision(target("a", FakeProvider()), target("b", FakeProvider()))

    assert dispatcher().order(made, POLICY, SESSION) == list(made.ranking)


def test_the_busier_endpoint_is_second() -> None:
    health = Health(time.monotonic)
    pair = endpoints("m", "m1", "m2")
    health.of("m1").in_flight = 3

    assert ids(dispatcher(*pair, health=health).order(decision(*pair), POLICY, None)) == ["m2", "m1"]


def test_the_slower_endpoint_gets_its_share_of_calls_only_when_the_other_is_busy() -> None:
    health = Health(lambda: 100.0)
    pair = endpoints("m", "fast", "slow")
    health.succeeded("fast", 100)
    health.succeeded("slow", 400)
    calls = dispatcher(*pair, health=health)

    for _ in range(10):
        health.of(ids(calls.order(decision(*pair), POLICY, None))[0]).in_flight += 1

    assert (health.of("fast").in_flight, health.of("slow").in_flight) == (8, 2)


def test_equal_endpoints_share_by_weight_while_they_are_idle() -> None:
    pair = endpoints("m", "m1") + endpoints("m", "m2", weight=1.2)
    calls = dispatcher(*pair)

    firsts = Counter(ids(calls.order(decision(*pair), POLICY, None))[0] for _ in range(1000))

    assert 400 < firsts["m1"] < 510


def test_a_session_keeps_to_its_endpoint_on_every_worker() -> None:
    three = endpoints("m", "m1", "m2", "m3")
    backwards = three[::-1]

    orders = {tuple(ids(dispatcher(*one).order(decision(*one), POLICY, SESSION))) for one in (three, backwards)}

    assert len(orders) == 1


def test_a_session_whose_endpoint_is_crowded_goes_to_its_next() -> None:
    health = Health(time.monotonic)
    three = endpoints("m", "m1", "m2", "m3")
    calls = dispatcher(*three, health=health)
    first, second, third = ids(calls.order(decision(*three), POLICY, SESSION))

    health.of(first).in_flight = 9

    assert ids(calls.order(decision(*three), POLICY, SESSION)) == [second, third, first]
