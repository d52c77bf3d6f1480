"""Which strategies there are, what a policy makes of them, and whether one fits a request."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ledger.record import Record
from gateway.strategies.find import Plan, plan_of, strategies, strategy_class
from gateway.strategies.fit import tactics_for
from policies.schema import Policy
from routers.find import load_router
from tests.unit.gateway.dispatch.calls import QUERY, chat, decision, target

BARE: Any = None


def plan(**tables: Any) -> Plan | None:
    return plan_of(Policy.model_validate({"schema": 1, "name": "p", **tables}), load_router)


def test_every_file_with_a_strategy_is_found_by_its_stem() -> None:
    assert strategies() == ["best_of_n", "cascade", "fuse", "race", "vote"]
    for kind in strategies():
        assert getattr(strategy_class(kind), "kind") == kind  # noqa: B009 - a protocol's class variable


def test_an_unknown_strategy_names_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"no strategy 'voet' \(known: single, .*\); did you mean 'vote'\?"):
        strategy_class("voet")


def test_a_policy_of_single_calls_has_no_plan() -> None:
    assert plan() is None
    assert plan(strategy={"kind": "single"}, category=[{"name": "c", "when": {}}]) is None


def test_a_category_s_own_strategy_and_effort_stand_for_it_alone() -> None:
    rows = [{"name": "sums", "when": {}, "strategy": {"kind": "vote"}, "reasoning_effort": "high"}]
    found = plan(category=rows, effort={"reasoning_effort": "low"})

    assert found is not None
    assert getattr(found.of("sums").strategy, "kind", None) == "vote" and found.of("other").strategy is None
    assert [getattr(found.of(name).effort, "level", None) for name in ("sums", "other")] == ["high", "low"]


def test_a_category_may_go_back_to_single_calls() -> None:
    found = plan(strategy={"kind": "vote"}, category=[{"name": "c", "when": {}, "strategy": {"kind": "single"}}])

    assert found is not None and found.of("c").strategy is None and found.of("general").strategy is not None


def test_a_wrong_table_is_named() -> None:
    with pytest.raises(ValueError, match="category 'c': there is no artifact 'x'"):
        plan(category=[{"name": "c", "when": {}, "strategy": {"kind": "cascade", "artifact": "x"}}])


def test_a_cascade_takes_the_artifact_of_a_cascade_router() -> None:
    with pytest.raises(ValueError, match="there is no artifact 'mine'"):
        plan(strategy={"kind": "cascade"}, router={"kind": "cascade", "artifact": "mine"})


def fit(found: Plan | None, pinned: bool = False, **fields: Any) -> tuple[bool, Record]:
    record = Record("r", 0.0, "chat", reason="Because.")
    chosen = decision(target("a", BARE), target("b", BARE))
    tactics = tactics_for(found, chat(**fields), QUERY, chosen, record, pinned=pinned)
    return tactics is not None and tactics.strategy is not None, record


def test_a_strategy_that_fits_is_noted() -> None:
    fits, record = fit(plan(strategy={"kind": "vote"}))

    assert fits and record.strategy == "vote" and record.reason == "Because."


@pytest.mark.parametrize(
    ("changes", "why"), [({"pinned": True}, "names its model"), ({"n": 3}, "wants several choices")]
)
def test_one_that_does_not_is_left_out_with_the_reason(changes: dict[str, Any], why: str) -> None:
    fits, record = fit(plan(strategy={"kind": "vote"}), **changes)

    assert not fits and record.strategy is None
    assert record.reason == f"Because. Strategy 'vote' does not apply, since the request {why}."


def test_effort_stays_where_a_strategy_does_not_fit() -> None:
    found = plan(strategy={"kind": "vote"}, effort={"reasoning_effort": "low"})
    tactics = tactics_for(found, chat(n=2), QUERY, decision(target("a", BARE)), Record("r", 0.0, "chat"), pinned=False)

    assert tactics is not None and tactics.strategy is None and tactics.effort is not None
