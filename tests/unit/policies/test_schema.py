"""The content hash of a policy, its paces and categories, and the prices of a card, also of copies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalogue import ModelCard
from policies.errors import PolicyError
from policies.load import parse_policy

PRICES = st.none() | st.floats(0, 100)
COUNTS = st.integers(0, 10**6)


def test_the_hash_ignores_the_order_of_keys_and_changes_with_the_content() -> None:
    one = parse_policy('schema = 1\nname = "p"\n[objective]\nquality = 1.0\ncost = 0.5\n', "a.toml")
    same = parse_policy('name = "p" # a comment\nschema = 1\nobjective = { cost = 0.5, quality = 1 }\n', "b.toml")
    assert one.sha256() == same.sha256() == one.sha256()
    assert one.model_copy(update={"exploration": 0.1}).sha256() != one.sha256()


def test_a_copied_card_has_its_own_prices() -> None:
    card = ModelCard(id="m", context_tokens=10, price_in_usd_per_mtok=1, price_out_usd_per_mtok=2)
    assert card.cost_nanousd(1000, 1000) == 3_000_000
    assert card.model_copy(update={"price_in_usd_per_mtok": 5.0}).cost_nanousd(1000, 1000) == 7_000_000


@given(PRICES, PRICES, PRICES, PRICES, COUNTS, COUNTS, st.floats(0, 1), st.floats(0, 1))
def test_a_calls_cost_is_the_sum_of_its_parts_rounded_up(
    read: float | None,
    cached: float | None,
    written: float | None,
    reasoned: float | None,
    tokens_in: int,
    tokens_out: int,
    cached_share: float,
    reasoned_share: float,
) -> None:
    card = ModelCard(
        id="m",
        context_tokens=10,
        price_in_usd_per_mtok=read,
        price_cached_in_usd_per_mtok=cached,
        price_out_usd_per_mtok=written,
        price_reasoning_usd_per_mtok=reasoned,
    )
    hits, thoughts = int(tokens_in * cached_share), int(tokens_out * reasoned_share)
    first, rest = (read or 0.0), (written or 0.0)
    usd = (tokens_in - hits) * first + hits * (first if cached is None else cached)
    usd += (tokens_out - thoughts) * rest + thoughts * (rest if reasoned is None else reasoned)
    cost = card.cost_nanousd(tokens_in, tokens_out, hits, thoughts)
    # Prices are rounded to whole pico-dollars a token, the sum up to whole nano-dollars.
    assert abs(cost - usd * 1000) <= 1 + (tokens_in + tokens_out) * 0.0005


def test_a_pace_without_a_weight_of_cost_is_refused_with_the_fix() -> None:
    with pytest.raises(PolicyError, match=r"pacing needs a cost weight.* Fix: set cost under \[objective\]"):
        parse_policy('schema = 1\nname = "p"\n[pacing]\nbudget_usd = 5', "p.toml")


@pytest.mark.parametrize(
    "wrong", ["budget_usd = 0", "budget_usd = 1\nperiod = 'year'", "budget_usd = 1\nmax_multiplier = 0.5"]
)
def test_senseless_paces_are_refused(wrong: str) -> None:
    with pytest.raises(PolicyError, match=r"p.toml:6|p.toml:7"):
        parse_policy(f'schema = 1\nname = "p"\n[objective]\ncost = 1\n[pacing]\n{wrong}', "p.toml")


def test_what_a_category_changes_in_the_objective_is_part_of_the_hash() -> None:
    text = 'schema = 1\nname = "p"\n[[category]]\nname = "code"\nwhen = { code = true }\n'
    plain, changed = (parse_policy(text + more, "p.toml") for more in ("", "objective = { cost = 0.5 }"))
    assert plain.sha256() != changed.sha256()
    assert (plain.objective_of("code").cost, changed.objective_of("code").cost) == (0.0, 0.5)
