"""What the ledger keeps of who answered, and of calls that were given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.dispatch.dispatch import Opened
from gateway.ledger.record import Record
from gateway.noting import Unanswered, note_decision, note_target, note_unanswered
from gateway.providers.base import Target
from policies.schema import Policy
from routers.decision import Decision
from tests.fakes import FakeProvider
from tests.unit.gateway.dispatch.calls import QUERY, decision, dispatcher, ranked, target

PRICES = {"price_in_usd_per_mtok": 1.0, "price_out_usd_per_mtok": 10.0}


def endpoint(name: str, **facts: Any) -> Target:
    return target(name, FakeProvider(), **facts)


def noted(decided: Decision, place: int, *targets: Target) -> Record:
    """The record of a request that the endpoint at this place of the order answered."""
    record = Record(id="r", at=1.0, route="chat")
    order = dispatcher(*targets).order(decided, Policy(schema=1, name="p"), None)
    note_decision(record, QUERY, Decision(tuple(order), "because", decided.router_kind, "p", "0" * 64))
    name = order[place].candidate.endpoint.id
    chosen = next(one for one in targets if one.endpoint.id == name)
    note_target(record, Opened(chosen, order[place], cast(Any, None), cast(Any, None), cast(Any, None), b""))
    return record


@pytest.mark.parametrize("place", [0, 1])
def test_a_drawn_model_keeps_the_chance_of_all_its_endpoints_whichever_answers(place: int) -> None:
    targets = [endpoint("a1", model="a"), endpoint("a2", model="a"), endpoint("b")]

    record = noted(decision(*targets, propensities=(0.25, 0.5, 0.25)), place, *targets)

    assert record.model == "a" and record.propensity == 0.75


def test_who_stands_in_for_the_drawn_model_has_no_propensity() -> None:
    targets = [endpoint("a"), endpoint("b")]

    record = noted(decision(*targets, propensities=(0.75, 0.25)), 1, *targets)

    assert (record.model, record.propensity) == ("model-b", None)


def test_who_was_named_has_no_propensity() -> None:
    targets = [endpoint("a"), endpoint("b")]

    record = noted(decision(*targets, propensities=(0.75, 0.25), kind="pinned"), 0, *targets)

    assert (record.model, record.propensity) == ("model-a", None)


def given_up(ms: float, stream: bool = False, reserved: int = 0, **facts: Any) -> tuple[Record, Unanswered]:
    """A call that waited so long for an endpoint that is expected to write 5 tokens in 10 ms."""
    only = endpoint("a", **{**PRICES, **facts})
    attempts = [{"endpoint": "a", "outcome": "cancelled", "ms": ms, "may_cost": True}]
    record = Record(id="r", at=1.0, route="chat", stream=stream, attempts=attempts)
    return record, note_unanswered(record, [ranked(only)], QUERY, reserved)


@pytest.mark.parametrize(("ms", "written"), [(0.0, 0), (2.0, 1), (4.0, 2), (10.0, 5), (9_000.0, 5)])
def test_a_whole_answer_that_nobody_waits_for_is_charged_as_far_as_it_had_come(ms: float, written: int) -> None:
    record, unanswered = given_up(ms)

    assert (record.input_tokens, record.output_tokens, record.usage_estimated) == (3, written, True)
    assert record.cost_nanousd == unanswered.cost_nanousd == 3_000 + 10_000 * written
    assert unanswered.tokens == 3 + written


def test_a_stream_that_has_not_spoken_has_read_the_prompt_and_may_have_thought() -> None:
    plain, _ = given_up(9_000.0, stream=True)
    thinker, _ = given_up(9_000.0, stream=True, reasoning=True)

    assert (plain.output_tokens, thinker.output_tokens) == (0, 5)


def test_no_more_is_charged_than_was_set_aside_and_nothing_where_nobody_began() -> None:
    record, unanswered = given_up(10.0, reserved=7_000)
    idle = Record(id="r", at=1.0, route="chat", attempts=[{"endpoint": "a", "outcome": "upstream_limited", "ms": 5.0}])

    assert (record.cost_nanousd, unanswered.cost_nanousd) == (7_000, 7_000)
    assert note_unanswered(idle, [ranked(endpoint("a"))], QUERY, 0) == Unanswered()
    assert idle.cost_nanousd is None


def test_what_an_unpriced_model_has_taken_is_unknown() -> None:
    record, unanswered = given_up(10.0, price_in_usd_per_mtok=None, price_out_usd_per_mtok=None)

    assert (record.cost_nanousd, record.output_tokens, unanswered.cost_nanousd) == (None, 5, 0)


def test_a_record_tells_the_expected_length_beside_the_median() -> None:
    one = ranked(endpoint("a"))
    told = replace(one, forecast=replace(one.forecast, output_tokens=100, output_tokens_mean=140))
    record = Record(id="r", at=1.0, route="chat")

    note_decision(record, QUERY, Decision((told,), "because", "ridge", "p", "0" * 64))

    assert record.decision
    assert (record.decision[0]["output_tokens"], record.decision[0]["output_tokens_expected"]) == (100, 140)
