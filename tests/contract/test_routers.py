"""What every router kind keeps, whichever it is; a new file in `routers/kinds/` is tested the moment it exists."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.schema import Predicate, RouterSpec, Rule
from routers.base import Router
from routers.decision import Candidate, Query
from routers.find import kinds, router_class
from routers.learned import LearnedRouter
from tests.contract.planted import fitted
from tests.unit.routers.candidates import candidate, query

RULE = Rule(name="code", when=Predicate(code=True), prefer=("m1*",))

POOLS = st.lists(
    st.builds(
        candidate,
        model=st.sampled_from(["m1", "m2", "m3"]),
        endpoint=st.uuids().map(str),
        price=st.none() | st.floats(0, 100),
        prior=st.floats(0, 1),
        latency_ms=st.floats(0, 1e6),
        max_output=st.none() | st.integers(1, 10_000),
    ),
    max_size=6,
)
QUERIES = st.builds(
    query,
    text=st.text(max_size=40),
    category=st.sampled_from(["general", "code", "never heard of"]),
    tokens=st.integers(0, 10**6),
    code=st.booleans(),
    tools=st.booleans(),
    max_output_tokens=st.none() | st.integers(1, 10**6),
)


def built(kind: str) -> Router:
    """A router of the kind with everything that a kind may ask of a policy."""
    found = router_class(kind)
    if issubclass(found, LearnedRouter):
        return found.from_artifact(fitted(kind).artifact)
    return found.from_spec(RouterSpec(kind=kind, model="m1", rule=(RULE,)))


@pytest.fixture(params=kinds())
def router(request: pytest.FixtureRequest) -> Router:
    return built(request.param)


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_bears_the_name_of_its_file(kind: str) -> None:
    found = router_class(kind)
    assert found.kind == kind
    assert isinstance(found.needs_embedding, bool)


@pytest.mark.parametrize("kind", kinds())
@settings(deadline=None, max_examples=50)
@given(pool=POOLS, asked=QUERIES)
def test_forecasts_are_one_a_candidate_in_order_and_sound(kind: str, pool: list[Candidate], asked: Query) -> None:
    forecasts = built(kind).forecast(asked, pool)
    assert [told.endpoint_id for told in forecasts] == [one.endpoint.id for one in pool]
    for told in forecasts:
        assert 0 <= told.quality_low <= told.quality <= told.quality_high <= 1
        assert 1 <= told.output_tokens <= told.output_tokens_high
        assert told.latency_ms >= 0 and math.isfinite(told.latency_ms)


@pytest.mark.parametrize("kind", kinds())
@settings(deadline=None, max_examples=50)
@given(pool=POOLS, asked=QUERIES)
def test_the_same_question_gets_the_same_forecasts(kind: str, pool: list[Candidate], asked: Query) -> None:
    one, other = built(kind), built(kind)
    assert one.forecast(asked, pool) == one.forecast(asked, pool) == other.forecast(asked, pool)
    assert one.reason(asked) == other.reason(asked)


def test_a_query_without_embedding_is_served_by_kinds_that_need_none(router: Router) -> None:
    if not router.needs_embedding:
        assert query().embedding is None
        assert len(router.forecast(query(), [candidate("m1")])) == 1


def test_no_candidates_give_no_forecasts(router: Router) -> None:
    assert router.forecast(query(), []) == []


def test_the_reason_is_one_sentence(router: Router) -> None:
    reason = router.reason(query(code=True))
    assert reason[0].isupper() and reason.endswith(".") and "\n" not in reason
