"""The files that ship: they load, fit one another, work without any key and name no key of anybody."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policies.catalogue import Catalogue, Task
from policies.check import check_policy
from policies.load import load_catalogue, shipped_catalogue_path, shipped_policies
from policies.schema import CacheMode

VENDORS = {"OPENAI", "ANTHROPIC", "GEMINI", "GROQ", "MISTRAL", "DEEPSEEK", "OPENROUTER"}
SERVERS = {"OLLAMA", "VLLM", "LLAMACPP"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(shipped_catalogue_path())


def test_the_three_policies_ship_and_fit_the_shipped_catalogue(catalogue: Catalogue) -> None:
    policies = shipped_policies()
    assert sorted(policies) == ["best", "default", "learned", "thrifty"]
    assert [problem for policy in policies.values() for problem in check_policy(policy, catalogue)] == []


def test_only_local_endpoints_are_enabled_without_any_variable(catalogue: Catalogue) -> None:
    free = [row for row in catalogue.endpoint if not row.env_names()]
    assert {row.provider for row in free} == {"local"}
    assert {row.model for row in free} == {"smollm2-135m-instruct", "all-minilm-l6-v2"}


def test_every_vendor_and_own_server_has_its_variable(catalogue: Catalogue) -> None:
    names = {name for row in catalogue.endpoint for name in row.env_names()}
    assert names == {f"{vendor}_API_KEY" for vendor in VENDORS} | {f"{server}_BASE_URL" for server in SERVERS}


def test_every_policy_allows_the_local_chat_model(catalogue: Catalogue) -> None:
    local = [card.id for card in catalogue.model if card.id.startswith("smollm2")]
    assert local and all(policy.allows(local[0]) for policy in shipped_policies().values())


def test_every_model_is_served_and_every_served_model_described(catalogue: Catalogue) -> None:
    assert {card.id for card in catalogue.model} == {row.model for row in catalogue.endpoint}
    assert all(card.description for card in catalogue.model)
    assert all(card.dimensions for card in catalogue.model if card.task is Task.EMBEDDING)


def test_cached_input_is_never_dearer_than_fresh_and_output_never_cheaper_than_input(catalogue: Catalogue) -> None:
    for card in (card for card in catalogue.model if card.task is Task.CHAT and card.priced):
        for row in (None, *card.price):
            at = 0.0 if row is None else max(row.begins, 0)
            price = card.prices(at, row.above_input_tokens + 1 if row else 0)
            fresh, written = price.price_in_usd_per_mtok or 0.0, price.price_out_usd_per_mtok or 0.0
            stored = price.price_cache_write_usd_per_mtok or fresh
            assert (price.price_cached_in_usd_per_mtok or 0.0) <= fresh <= written, card.id
            assert fresh <= stored <= (price.price_cache_write_long_usd_per_mtok or stored), card.id


def test_prices_that_change_on_a_day_do_so_in_the_shipped_catalogue(catalogue: Catalogue) -> None:
    argon = catalogue.card("gemini-4-argon")
    assert argon is not None
    november, december = (datetime(2026, month, 30, tzinfo=UTC).timestamp() for month in (11, 12))
    assert argon.cost_nanousd(10**6, 0, at=november) * 2 == argon.cost_nanousd(10**6, 0, at=december) == 4 * 10**9


def test_addresses_are_bases_that_take_chat_completions_after_them(catalogue: Catalogue) -> None:
    for row in catalogue.endpoint:
        assert not (row.base_url or "").endswith(("/", "/chat/completions")), row.id


def test_the_shipped_policies_answer_exact_repeats_alone_and_never_personal_or_passing_ones() -> None:
    policies = shipped_policies()
    assert {name: policy.most_cached for name, policy in policies.items()} == {
        "default": CacheMode.EXACT,
        "thrifty": CacheMode.EXACT,
        "learned": CacheMode.EXACT,
        "best": CacheMode.OFF,
    }
    for category in ("volatile", "personal"):
        assert policies["default"].cache_rule(category)[0].mode is CacheMode.OFF


def test_only_the_default_policy_needs_an_embedder() -> None:
    assert {name for name, policy in shipped_policies().items() if policy.needs_embedding} == {"default"}


def test_no_file_holds_anything_like_a_key() -> None:
    for path in Path(shipped_catalogue_path()).parent.glob("*.toml"):
        assert not re.search(r"\b(sk|gsk|key|AIza)[-_][A-Za-z0-9_-]{12,}", path.read_text()), path.name
