"""The router an admin writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.schema import Predicate, RouterSpec, Rule
from routers.kinds.rules import RuleRouter
from tests.unit.routers.candidates import candidate, query

CODE = Rule(name="code", when=Predicate(category=("code",)), prefer=("big-*", "exact"))
LONG = Rule(name="long", when=Predicate(min_tokens=50), prefer=("small",))
ROUTER = RuleRouter.from_spec(RouterSpec(rule=(CODE, LONG)))


def qualities(category: str, tokens: int = 10) -> dict[str, float]:
    pool = [candidate("big-1", prior=0.9), candidate("exact", prior=0.2), candidate("small", prior=0.8)]
    told = ROUTER.forecast(query(category=category, tokens=tokens), pool)
    return {one.card.id: forecast.quality for one, forecast in zip(pool, told, strict=True)}


def test_priors_speak_where_no_rule_holds() -> None:
    assert qualities("general") == {"big-1": 0.9, "exact": 0.2, "small": 0.8}
    assert ROUTER.reason(query(tokens=10)) == "No rule matched; models stand by their prior quality."


def test_preferred_models_are_lifted_and_the_others_lowered() -> None:
    assert qualities("code") == {"big-1": 0.95, "exact": 0.6, "small": 0.4}


def test_the_first_rule_that_holds_decides() -> None:
    assert qualities("code", tokens=99) == qualities("code")
    assert ROUTER.reason(query(category="code", tokens=99)) == "Rule 'code' matched: the category is 'code'."
    assert ROUTER.reason(query(tokens=99)) == "Rule 'long' matched: it has about 99 tokens."


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(0, 5))
def test_a_preferred_model_never_ranks_below_another(priors: list[float], split: int) -> None:
    pool = [candidate(f"big-{i}" if i < split else f"z-{i}", prior=prior) for i, prior in enumerate(priors)]
    told = [forecast.quality for forecast in ROUTER.forecast(query(category="code"), pool)]
    assert min(told[:split], default=1.0) >= max(told[split:], default=0.0)


def test_patterns_match_whole_ids() -> None:
    pool = [candidate("exactly", prior=0.5), candidate("not-big-1", prior=0.5), candidate("exact", prior=0.5)]
    assert [told.quality for told in ROUTER.forecast(query(category="code"), pool)] == [0.25, 0.25, 0.75]
