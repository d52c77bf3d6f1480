"""Fallback: only before the first byte, in the declared order, never for the request's own fault."""

import msgspec
import pytest

from gateway.dispatch.dispatch import Dispatcher, call_order
from gateway.dispatch.health import Health
from gateway.errors import (
    ContextTooLong,
    GatewayError,
    RefusedUpstream,
    UpstreamBroken,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers.base import Target
from gateway.wire.chat_request import parse_chat
from policies.catalogue import Endpoint, ModelCard
from policies.schema import Fallback
from routers.decision import Candidate, Decision, Features, Forecast, Query, Ranked
from tests.fakes import WHOLE, FakeProvider

REQUEST = parse_chat(msgspec.json.encode({"model": "auto", "messages": [{"role": "user", "content": "x"}]}))
QUERY = Query(text="x", features=Features(tokens=3, chars=1))


HERE = "http://127.0.0.1:9"


def target(name: str, provider: FakeProvider, base_url: str = HERE, kind: str = "openai") -> Target:
    row = Endpoint(id=name, model=f"model-{name}", provider=kind, base_url=base_url)
    return Target(endpoint=row, card=ModelCard(id=f"model-{name}", context_tokens=10), provider=provider)


def decision(*targets: Target) -> Decision:
    ranking = tuple(
        Ranked(
            candidate=Candidate(one.endpoint, one.card, 10.0),
            forecast=Forecast(one.endpoint.id, 0.5, 0.4, 0.6, 5, 9, 10.0),
            cost_nanousd=0,
            cost_high_nanousd=0,
            score=0.5,
            propensity=1.0,
        )
        for one in targets
    )
    return Decision(ranking, "because", "rules", "p", "0" * 64)


def dispatcher(*targets: Target) -> tuple[Dispatcher, Health]:
    health = Health(lambda: 0.0)
    return Dispatcher({one.endpoint.id: one for one in targets}, health), health


@pytest.mark.parametrize(
    "failure", [UpstreamTimeout("late"), UpstreamBroken("html"), UpstreamLimited("slow down"), ContextTooLong("long")]
)
async def test_the_next_in_the_ranking_answers_when_the_first_fails(failure: GatewayError) -> None:
    first, second = target("a", FakeProvider(failure)), target("b", FakeProvider())
    attempts: list[dict[str, object]] = []

    opened = await dispatcher(first, second)[0].open(REQUEST, QUERY, decision(first, second), Fallback(), attempts)

    assert opened.target is second
    assert [attempt["outcome"] for attempt in attempts] == [failure.code, "ok"]


async def test_a_refused_request_is_asked_nowhere_else() -> None:
    second = FakeProvider()
    refused = target("a", FakeProvider(RefusedUpstream(400, {"message": "no", "code": "c"}))), target("b", second)

    with pytest.raises(RefusedUpstream):
        await dispatcher(*refused)[0].open(REQUEST, QUERY, decision(*refused), Fallback(), [])

    assert second.calls == []


async def test_a_broken_first_frame_is_closed_and_another_endpoint_asked() -> None:
    broken, good = FakeProvider([b"{not json"]), FakeProvider([WHOLE])
    targets = target("a", broken), target("b", good)

    opened = await dispatcher(*targets)[0].open(REQUEST, QUERY, decision(*targets), Fallback(), [])

    assert broken.closed == 1
    assert msgspec.json.decode(opened.first)["choices"][0]["message"]["content"] == "hi"


async def test_an_empty_answer_is_a_broken_one() -> None:
    only = target("a", FakeProvider([]))

    with pytest.raises(UpstreamBroken):
        await dispatcher(only)[0].open(REQUEST, QUERY, decision(only), Fallback(), [])


async def test_the_last_failure_is_told_and_every_failure_counts_against_health() -> None:
    targets = (
        target("a", FakeProvider(UpstreamBroken("x"))),
        target("b", FakeProvider(UpstreamLimited("y", retry_after_s=9))),
    )
    calls, health = dispatcher(*targets)

    with pytest.raises(UpstreamLimited):
        await calls.open(REQUEST, QUERY, decision(*targets), Fallback(), [])

    assert health.paused_s("b") == 9


def test_fallback_models_come_right_after_the_chosen_one() -> None:
    a, b, c, d = (target(name, FakeProvider()) for name in "abcd")

    order = call_order(decision(a, b, c, d), Fallback(models=("model-d", "model-c")))

    assert [one.candidate.endpoint.id for one in order] == ["a", "d", "c", "b"]


@pytest.mark.parametrize(("fallback", "tries"), [(Fallback(enabled=False), 1), (Fallback(max_attempts=2), 2)])
async def test_there_are_as_many_tries_as_the_policy_allows(fallback: Fallback, tries: int) -> None:
    targets = [target(name, FakeProvider(UpstreamBroken("x"))) for name in "abcd"]
    attempts: list[dict[str, object]] = []

    with pytest.raises(UpstreamBroken):
        await dispatcher(*targets)[0].open(REQUEST, QUERY, decision(*targets), fallback, attempts)

    assert len(attempts) == tries


async def test_an_unreachable_host_is_not_tried_again_under_another_name() -> None:
    same = [target(name, FakeProvider(UpstreamUnavailable("x"))) for name in "ab"]
    other = target("c", FakeProvider(), base_url="http://127.0.0.1:8/v1")

    opened = await dispatcher(*same, other)[0].open(
        REQUEST, QUERY, decision(*same, other), Fallback(max_attempts=2), []
    )

    assert opened.target is other


async def test_the_last_try_goes_to_the_model_in_this_process() -> None:
    down = [target(name, FakeProvider(UpstreamBroken("x"))) for name in "abcd"]
    here = target("here", FakeProvider(), kind="local")

    opened = await dispatcher(*down, here)[0].open(REQUEST, QUERY, decision(*down, here), Fallback(max_attempts=3), [])

    assert opened.target is here


async def test_a_comment_is_no_answer_yet() -> None:
    stream = parse_chat(
        msgspec.json.encode({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    )
    alive = b": still here\n\n"
    talks_then_fails = target("a", FakeProvider([alive, alive, b"!lost"]))
    good = target("b", FakeProvider([alive, b"data: {}\n\n"]))

    opened = await dispatcher(talks_then_fails, good)[0].open(
        stream, QUERY, decision(talks_then_fails, good), Fallback(), []
    )

    assert opened.target is good
    assert opened.first == alive + b"data: {}\n\n"
