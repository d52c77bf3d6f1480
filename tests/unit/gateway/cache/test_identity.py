"""No two tenants and no two contexts share a partition, however requests are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.rules import Caller
from gateway.cache.control import Control
from gateway.cache.identity import Scope, Sharing, Tenant, group_of, identify, tenant_of
from gateway.wire.chat_request import parse_chat
from tests.unit.gateway.cache.bodies import SCOPE, body, of, request

TEXT = st.text(max_size=12)
SCOPES = st.builds(
    Scope,
    st.builds(Tenant, st.sampled_from(["organisation", "team", "key"]), TEXT),
    TEXT,
    key=st.just("k"),
    namespace=TEXT,
    models=st.none() | st.lists(TEXT, max_size=2, unique=True).map(lambda names: tuple(sorted(names))),
    end_user=st.none() | TEXT,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, 1, 1.5]),
        "seed": st.integers(0, 2),
        "max_tokens": st.integers(1, 3),
        "tools": st.lists(st.sampled_from("fgh"), min_size=1, max_size=2, unique=True).map(
            lambda names: [{"type": "function", "function": {"name": name}} for name in sorted(names)]
        ),
        "unheard_of": st.recursive(st.booleans() | st.text(max_size=3), lambda one: st.lists(one, max_size=2)),
    },
)
HISTORY = st.lists(st.sampled_from(["a", "b", "A"]), max_size=3)


def asking(history: list[str], question: str, fields: dict[str, Any]) -> dict[str, Any]:
    turns = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(history)]
    return {"model": "auto", "messages": [*turns, {"role": "user", "content": question}], **fields}


def meaning(one: dict[str, Any]) -> Any:
    """What a request says, with defaults left out."""
    return {name: value for name, value in one.items() if (name, value) != ("temperature", 1)}


REQUESTS = st.builds(asking, HISTORY, st.sampled_from(["a", "b", "1²", "12"]), FIELDS)


@given(SCOPES, SCOPES)
def test_other_scopes_never_share(first: Scope, second: Scope) -> None:
    one, two = of(scope=first), of(scope=second)

    assert (one.partition == two.partition) == (first == second)
    assert (one.exact == two.exact) == (first == second)


@settings(max_examples=300)
@given(REQUESTS, REQUESTS)
def test_whatever_may_change_the_answer_parts_two_requests(first: dict[str, Any], second: dict[str, Any]) -> None:
    one, two = (identify(parse_chat(msgspec.json.encode(body)), SCOPE) for body in (first, second))
    contexts = [meaning({**body, "messages": body["messages"][:-1]}) for body in (first, second)]

    assert (one.exact == two.exact) == (msgspec.json.encode(meaning(first), order="sorted")
                                        == msgspec.json.encode(meaning(second), order="sorted"))  # fmt: skip
    assert (one.partition == two.partition) == (msgspec.json.encode(contexts[0], order="sorted")
                                                == msgspec.json.encode(contexts[1], order="sorted"))  # fmt: skip


@given(REQUESTS, st.randoms(use_true_random=False), st.booleans())
def test_order_of_keys_and_way_of_travel_are_nothing(asked: dict[str, Any], order: Any, stream: bool) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = order.sample(sorted(value), len(value))
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(one) for one in value] if isinstance(value, list) else value

    other = shuffled({**asked, "stream": stream, "user": "somebody"})

    assert identify(parse_chat(msgspec.json.encode(other)), SCOPE) == identify(
        parse_chat(msgspec.json.encode(asked)), SCOPE
    )


def test_only_the_last_question_is_outside_the_partition() -> None:
    one, two = of("How do I log in?"), of("How do I log out?")

    assert one.partition == two.partition
    assert one.exact != two.exact
    assert (one.text, two.text) == ("How do I log in?", "How do I log out?")


def test_a_text_can_not_pass_for_what_stands_beside_it() -> None:
    question = body()["messages"][1]["content"]
    messages = [{"role": "system", "content": f"You are terse.{question}"}, {"role": "user", "content": ""}]
    forged = {"model": "auto", "messages": messages}

    assert identify(parse_chat(msgspec.json.encode(forged)), SCOPE).exact != of().exact


@pytest.mark.parametrize(
    "control", [Control(private=True), Control(namespace="a"), Control(private=True, namespace="a")]
)
def test_a_request_can_keep_to_itself(control: Control) -> None:
    other_key = replace(SCOPE, key="key-2")

    alone = identify(request(), SCOPE, control=control)

    assert alone.partition != of().partition
    assert (alone.partition == identify(request(), other_key, control=control).partition) == (not control.private)


def test_a_namespace_of_the_request_is_not_one_of_the_deployment() -> None:
    theirs = identify(request(), replace(SCOPE, namespace="a"))

    assert theirs.partition != identify(request(), SCOPE, control=Control(namespace="a")).partition


def test_named_models_are_a_group_of_their_own() -> None:
    assert len({group_of("a", ()), group_of("b", ()), group_of("x", ("a",)), group_of("x", ("a", "b"))}) == 4
    assert group_of("x", ("a",)) == group_of("y", ("a",))


@pytest.mark.parametrize(
    ("sharing", "organisation", "team", "found"),
    [
        (Sharing.ORGANISATION, "o", "t", Tenant("organisation", "o")),
        (Sharing.ORGANISATION, None, "t", Tenant("team", "t")),
        (Sharing.TEAM, "o", "t", Tenant("team", "t")),
        (Sharing.TEAM, "o", None, Tenant("key", "first")),
        (Sharing.KEY, "o", "t", Tenant("key", "first")),
        (Sharing.ORGANISATION, None, None, Tenant("key", "first")),
    ],
)
def test_sharing_is_never_wider_than_asked(
    sharing: Sharing, organisation: str | None, team: str | None, found: Tenant
) -> None:
    caller = Caller("second", "user", None, None, team, organisation, root_id="first")

    assert tenant_of(caller, sharing) == found
