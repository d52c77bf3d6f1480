"""What requests say of the cache is read strictly: whoever is misunderstood is told which field and how to mend it."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from gateway.cache.control import NO_CONTROL, Control, control_of, without_control
from gateway.errors import InvalidRequest
from gateway.wire.chat_request import parse_chat
from gateway.wire.messages_request import MessagesDialect
from policies.schema import CacheMode
from tests.unit.gateway.cache.bodies import request


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", NO_CONTROL),
        ("no-cache", Control(reads=False)),
        ("No-Store", Control(stores=False)),
        ("no-cache, no-store", Control(reads=False, stores=False)),
        ("max-age=60", Control(max_age_s=60)),
        ('max-age="60", max-age=9', Control(max_age_s=9)),
        ("max-age=0", Control(reads=False, max_age_s=0)),
        ("only-if-cached,max-age=5", Control(only_if_cached=True, max_age_s=5)),
        ("private", Control(private=True)),
        (" , no-transform, public", NO_CONTROL),
        ("max-stale", Control(stale_s=inf)),
        ("max-stale=60, max-stale=7, max-stale", Control(stale_s=7)),
        ("max-stale, max-stale=9", Control(stale_s=9)),
        ("max-stale=9, min-fresh=3", Control(stale_s=0)),
    ],
)
def test_the_header_is_understood(header: str, found: Control) -> None:
    assert control_of(request(), header) == found


@pytest.mark.parametrize(
    ("header", "usual_s", "under_load_s"),
    [("", 0, 60), ("max-stale=9", 9, 9), ("max-age=5", 0, 0), ("max-age=5, max-stale=9", 9, 9), ("min-fresh=1", 0, 0)],
)
def test_who_says_how_old_an_answer_may_be_takes_no_expired_one_unasked(
    header: str, usual_s: float, under_load_s: float
) -> None:
    control = control_of(request(), header)

    assert (control.stalest_s(0.0), control.stalest_s(60.0)) == (usual_s, under_load_s)


def test_the_body_says_more() -> None:
    field = {"mode": "exact", "ttl": 60, "max_age": 30, "tags": ["b", "a", "b"], "namespace": "faq:v2", "store": False}

    assert control_of(request(cache=field)) == Control(
        CacheMode.EXACT, stores=False, max_age_s=30, ttl_s=60, namespace="faq:v2", tags=("b", "a")
    )
    assert control_of(request(cache=None)) == control_of(request(cache={})) == NO_CONTROL


def test_the_stricter_of_header_and_body_holds() -> None:
    found = control_of(request(cache={"max_age": 30, "read": True, "store": True}), "max-age=60, no-cache, no-store")

    assert (found.max_age_s, found.reads, found.stores) == (30, False, False)


def test_a_messages_request_says_it_in_the_same_field() -> None:
    body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"cache":{"mode":"off"}}'

    assert control_of(MessagesDialect().parse(body)).mode is CacheMode.OFF


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_no_upstream_sees_the_field(dialect: str) -> None:
    body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"cache":{}}'
    asked = parse_chat(body) if dialect == "chat" else MessagesDialect().parse(body)

    sent = without_control(asked)

    assert b"cache" not in sent.wire_body("m")
    assert sent.original is None or "cache" not in sent.original.fields
    assert sent.native_only is None
    assert without_control(sent) is sent


@pytest.mark.parametrize(
    ("field", "param", "mend"),
    [
        ({"mode": "fuzzy"}, "cache.mode", '"off", "exact" or "semantic"'),
        ({"mode": 1}, "cache.mode", '"off", "exact" or "semantic"'),
        ({"ttl": 0}, "cache.ttl", "from 1 to"),
        ({"ttl": 1e99}, "cache.ttl", "whole seconds"),
        ({"max_age": -1}, "cache.max_age", "from 0 to"),
        ({"tags": ["a"] * 9}, "cache.tags", "at most 8"),
        ({"tags": ["a b"]}, "cache.tags", "letters"),
        ({"tags": ["a\n"]}, "cache.tags", "letters"),
        ({"namespace": "{x}"}, "cache.namespace", "letters"),
        ({"namespace": "x" * 65}, "cache.namespace", "1 to 64"),
        ({"read": "no"}, "cache.read", "true or false"),
        ({"Mode": "off"}, "cache.Mode", "takes mode, ttl"),
        (False, "cache", '{"mode": "off"}'),
        ("off", "cache", '{"mode": "off"}'),
    ],
)
def test_a_wrong_field_is_named_with_its_mend(field: Any, param: str, mend: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        control_of(request(cache=field))

    assert raised.value.param == param
    assert f"'{param}'" in raised.value.message
    assert mend in raised.value.message


@pytest.mark.parametrize(
    ("header", "mend"),
    [
        ("no-cahce", "use no-cache"),
        ("max-age", "max-age=60"),
        ("max-age=-1", "max-age=60"),
        ("max-age=1, max-age=x", "max-age=60"),
        ("max-age=x, max-age=1", "max-age=60"),
        ("max-age=٣", "max-age=60"),
        ("max-stale=x", "max-stale=60"),
        ("no-store=1", "write it alone"),
        ("only-if-cached, no-cache", "leave out"),
        ("only-if-cached, max-age=0", "leave out"),
        ("x" * 1001, "at most 1000"),
    ],
)
def test_a_wrong_header_is_named_with_its_mend(header: str, mend: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        control_of(request(), header)

    assert raised.value.param == "cache-control"
    assert mend in raised.value.message
