"""What in a policy can never take effect under a catalogue."""

from __future__ import annotations

import pytest

from policies.check import check_policy
from policies.load import parse_catalogue, parse_policy

CATALOGUE = parse_catalogue(
    """
    [[model]]
    id = "gpt-5"
    context_tokens = 10
    [[model]]
    id = "claude-4"
    context_tokens = 10
    [[model]]
    id = "embedder"
    task = "embedding"
    context_tokens = 10
    [[endpoint]]
    id = "e"
    model = "gpt-5"
    provider = "local"
    """,
    "c.toml",
)


def problems(body: str) -> list[str]:
    return check_policy(parse_policy(f'schema = 1\nname = "p"\n{body}', "p.toml"), CATALOGUE)


def test_a_policy_that_fits_has_no_problems() -> None:
    assert problems('models = ["gpt-*", "claude-4"]\n[fallback]\nmodels = ["gpt-5"]') == []


def test_a_pattern_that_matches_no_chat_model_is_told_with_the_nearest_one() -> None:
    assert problems('models = ["gpt-5", "claude-5"]') == [
        "models: 'claude-5' matches no chat model of the catalogue; did you mean 'claude-4'?"
    ]
    assert problems('models = ["gpt-5", "embedder"]') == ["models: 'embedder' matches no chat model of the catalogue"]


def test_an_unknown_fixed_model_is_told() -> None:
    found = problems('[router]\nkind = "fixed"\nmodel = "gpt-6"')
    assert found == ["router.model: no chat model is called 'gpt-6'; did you mean 'gpt-5'?"]


def test_a_rule_that_prefers_nothing_there_is_told() -> None:
    found = problems('[[router.rule]]\nname = "r"\nprefer = ["llama*"]')
    assert found[0] == "router.rule[r].prefer: 'llama*' matches no chat model of the catalogue"


def test_a_rule_whose_models_the_policy_forbids_is_told() -> None:
    found = problems('models = ["gpt-*"]\n[[router.rule]]\nname = "r"\nprefer = ["claude*"]')
    assert found == ["router.rule[r].prefer: no model that it prefers is allowed by the policy's models"]


def test_an_unknown_fallback_model_is_told() -> None:
    assert problems('[fallback]\nmodels = ["gpt-55"]') == [
        "fallback.models: no chat model is called 'gpt-55'; did you mean 'gpt-5'?"
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("enabled = false", "while fallback.enabled is false"),
        ("deadline_s = 0.5", "since fallback.deadline_s ends before"),
    ],
)
def test_hedging_that_never_comes_about_is_told(body: str, why: str) -> None:
    assert problems(f"[fallback]\nhedge_after_ms = 500\n{body}") == [
        f"fallback.hedge_after_ms: has no effect{',' if 'since' in why else ''} {why}"
    ]


def test_allowed_models_that_nothing_serves_are_told() -> None:
    assert problems('models = ["claude-*"]') == ["models: none of the allowed models has an enabled [[endpoint]] row"]


def test_a_default_model_that_does_not_exist_is_told_for_every_kind() -> None:
    assert problems('[router]\nkind = "rules"\nmodel = "gpt-6"') == [
        "router.model: no chat model is called 'gpt-6'; did you mean 'gpt-5'?"
    ]


def test_certainty_and_trust_are_told_where_the_kind_has_no_forecasts_to_doubt() -> None:
    found = problems('[router]\nkind = "random_choice"\nconfidence = 0.9\nmin_trust = 0.5')
    assert found == [
        "router.confidence: has no effect with kind 'random_choice', which has no forecasts to be sure of",
        "router.min_trust: has no effect with a kind that has learned nothing",
    ]


def test_what_a_pace_can_not_act_on_is_told() -> None:
    found = problems(
        '[objective]\ncost = 0.5\n[pacing]\nbudget_usd = 5\n[[category]]\nname = "code"\nwhen = { code = true }\n'
        "objective = { cost = 0 }"
    )
    assert found == [
        "category[code].objective.cost: is 0, so pacing can't make its calls any cheaper",
        "pacing: 'gpt-5' has no price in the catalogue, so its calls are refused under a paced budget",
    ]
