"""Who is in which arm: the same everywhere, for good, and evenly spread."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rules import Caller
from gateway.lifecycle.trials.assignment import Arm, UnitKind, place_of, unit_of
from gateway.wire.chat_request import ChatRequest, parse_chat

CALLER = Caller("key2", "application", None, None, root_id="key1")
SHARES = st.floats(0.005, 0.95)


def asked(**fields: Any) -> ChatRequest:
    return parse_chat(json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}], **fields}).encode())


@given(st.text(), SHARES, SHARES)
def test_a_larger_share_keeps_everybody_who_was_in_the_canary_arm(unit: str, one: float, other: float) -> None:
    place, (small, large) = place_of("trial_1", unit), sorted((one, other))

    if place.arm(small) is Arm.CANARY:
        assert place.arm(large) is Arm.CANARY


@given(st.text(), st.text(min_size=1, max_size=80))
def test_a_unit_has_one_place_in_a_trial_and_it_is_no_name(unit: str, trial: str) -> None:
    place = place_of(trial, unit)

    assert place == place_of(trial, unit)
    assert 0 <= place.height < 1
    assert len(place.unit) == 16 and int(place.unit, 16) >= 0


def test_units_are_spread_evenly_and_trials_are_independent_of_each_other() -> None:
    first, second = ([place_of(trial, f"user {one}").height for one in range(20_000)] for trial in ("a", "b"))

    for share in (0.01, 0.05, 0.5):
        count = sum(one < share for one in first)
        assert abs(count - 20_000 * share) < 4 * (20_000 * share * (1 - share)) ** 0.5
    both = sum(one < 0.5 and other < 0.5 for one, other in zip(first, second, strict=True))
    assert abs(both - 5_000) < 4 * (20_000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(
    ("fields", "session", "unit"),
    [
        ({}, "", "key\0key1"),
        ({"user": "ann"}, "", "end_user\0key1\0ann"),
        ({"user": "ann"}, "s1", "session\0key1\0s1"),
        ({"user": "ann", "prompt_cache_key": "s2"}, "", "session\0key1\0s2"),
        ({"user": "ann", "prompt_cache_key": 7}, "", "end_user\0key1\0ann"),
    ],
)
def test_a_unit_is_the_session_else_the_end_user_else_the_line_of_keys(
    fields: dict[str, Any], session: str, unit: str
) -> None:
    assert unit_of(UnitKind.CALLER, asked(**fields), CALLER, "req_1", session) == unit


def test_each_request_may_be_a_unit_of_its_own() -> None:
    assert unit_of(UnitKind.REQUEST, asked(user="ann"), CALLER, "req_1", "s1") == "request\0req_1"
