"""Differences of two policies, readable."""

from __future__ import annotations

from policies.diff import ChangeKind, diff, render
from policies.load import parse_policy, shipped_policies
from policies.schema import Policy

ROWS = """
[[category]]
name = "code"
when = { code = true }
[[category]]
name = "math"
examples = ["1 + 1"]
"""


def policy(body: str = "", rows: str = ROWS) -> Policy:
    return parse_policy(f'schema = 1\nname = "p"\n{body}\n{rows}', "p.toml")


def test_a_policy_does_not_differ_from_itself() -> None:
    for one in shipped_policies().values():
        assert diff(one, one) == ()
    assert render(()) == "no changes"


def test_a_changed_value_is_told_with_its_path() -> None:
    changes = diff(policy("[objective]\ncost = 0.1"), policy("[objective]\ncost = 0.5"))
    assert render(changes) == "~ objective.cost: 0.1 -> 0.5"


def test_a_key_that_was_unset_is_added_and_back_removed() -> None:
    old, new = policy(), policy("[budget]\nmax_cost_usd_per_request = 0.5")
    assert render(diff(old, new)) == "+ budget.max_cost_usd_per_request = 0.5"
    assert render(diff(new, old)) == "- budget.max_cost_usd_per_request = 0.5"


def test_rows_are_matched_by_name() -> None:
    new = policy(rows=ROWS.replace('"1 + 1"', '"1 + 2"') + '[[category]]\nname = "talk"\nexamples = ["hi"]\n')
    changed, added = diff(policy(), new)
    assert str(changed) == '~ category[math].examples: ["1 + 1"] -> ["1 + 2"]'
    assert (added.kind, added.path) == (ChangeKind.ADDED, "category[talk]")


def test_the_order_of_rows_counts_since_the_first_match_wins() -> None:
    first, second = ROWS.strip().split("[[category]]")[1:]
    turned = policy(rows=f"[[category]]{second}\n[[category]]{first}")
    assert render(diff(policy(), turned)) == '~ category order: ["code", "math"] -> ["math", "code"]'
