"""Strategies and effort as an admin writes them: what is refused, and what is warned of."""

from __future__ import annotations

import pytest

from policies.catalogue import Catalogue
from policies.check import check_policy
from policies.errors import PolicyError
from policies.load import parse_policy
from policies.schema import Policy

HEAD = 'schema = 1\nname = "p"\nmodels = ["a", "b"]\n'
CATALOGUE = Catalogue.model_validate(
    {
        "model": [{"id": name, "context_tokens": 10} for name in ("a", "b")],
        "endpoint": [
            {"id": f"at-{name}", "model": name, "provider": "openai", "base_url": "http://x"} for name in ("a", "b")
        ],
    }
)


def policy(text: str) -> Policy:
    return parse_policy(HEAD + text, "p.toml")


def test_a_policy_says_nothing_of_strategies_unless_it_wants_to() -> None:
    found = policy("")

    assert (found.strategy.kind, found.strategy.max_calls, found.effort.reasoning_effort) == ("single", 4, None)


def test_a_category_has_a_strategy_and_an_effort_of_its_own() -> None:
    found = policy(
        '[[category]]\nname = "c"\nwhen = { code = true }\nreasoning_effort = "high"\nstrategy = { kind = "vote" }'
    )

    assert found.category[0].strategy is not None and found.category[0].strategy.kind == "vote"
    assert found.category[0].reasoning_effort == "high"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[strategy]\nkind = "best_of_n"\nscorer = "judge"', "a judge is needed"),
        ("[strategy]\nmax_calls = 17", "must be <= 16"),
        ("[strategy]\nn = 1", "must be >= 2"),
        ("[strategy]\nconfidence = 0.4", "must be >= 0.5"),
        ('[strategy]\nscorer = "juge"', "write 'judge'"),
        ('[effort]\nreasoning_effort = "hihg"', "write 'high'"),
        ('[strategy]\nmodels = ["c"]', "'c' is not allowed by this policy's models"),
        ('[strategy]\naggregator = "c"', "'c' is not allowed by this policy's models"),
        (
            '[[category]]\nname = "c"\nwhen = {}\nstrategy = { judge = "c" }',
            "'c' is not allowed by this policy's models",
        ),
        ('[strategy]\nmodels = ["a b"]', "is no model id or pattern"),
        ("[strategy]\nmax_call = 3", "write 'max_calls'"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_its_fix(text: str, told: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(text)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ('[strategy]\nkind = "vote"\nn = 9', "strategy.n: only 4 of 9 are asked, since max_calls is 4"),
        ('[strategy]\nkind = "fuse"\nn = 4', "strategy.n: only 3 of 4 are asked"),
        (
            '[[category]]\nname = "c"\nwhen = {}\nstrategy = { kind = "race", models = ["x*"] }',
            "category[c].strategy.mod",
        ),
    ],
)
def test_what_has_no_effect_is_warned_of(text: str, warned: str) -> None:
    warnings = check_policy(policy(text), CATALOGUE)

    assert any(warned in one for one in warnings), warnings


def test_a_judge_that_the_catalogue_lacks_is_warned_of() -> None:
    text = 'schema = 1\nname = "p"\n[strategy]\nkind = "best_of_n"\nscorer = "judge"\njudge = "ab"\n'

    warnings = check_policy(parse_policy(text, "p.toml"), CATALOGUE)

    assert any("strategy.judge: no chat model is called 'ab'" in one for one in warnings), warnings
