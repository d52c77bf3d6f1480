"""Whom to ask, and how answers are quoted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.strategies.asking import LEFT_OUT, among, best_forecast, fitted, quoted, sample_asks, shortened
from gateway.strategies.base import Ask, Call
from policies.schema import StrategySpec
from routers.features import estimate_tokens
from tests.unit.gateway.dispatch.calls import chat
from tests.unit.gateway.strategies.panels import QUERY, FakePanel, seat

SEATS = [seat("gpt-a", 0.3), seat("gpt-b", 0.9), seat("other", 0.6)]


def test_patterns_name_models_and_none_names_all() -> None:
    assert [one.card.id for one in among(SEATS, ["gpt-*"])] == ["gpt-a", "gpt-b"]
    assert among(SEATS, []) == SEATS


def test_the_best_forecast_comes_first() -> None:
    assert [one.card.id for one in best_forecast(SEATS)] == ["gpt-b", "other", "gpt-a"]


def test_samples_differ_by_seed_and_temperature_where_the_client_leaves_that_open() -> None:
    panel = FakePanel(SEATS, {}, request=chat(seed=3, stream=True, stream_options={"include_usage": True}))
    spec = StrategySpec(kind="vote", temperature=0.8)

    asks = sample_asks(panel, spec, 2, 1)

    assert [one.request.envelope.seed for one in asks] == [4, 5]
    assert [bytes(one.request.fields["temperature"]) for one in asks] == [b"0.8", b"0.8"]
    assert not asks[0].request.stream and "stream_options" not in asks[0].request.fields


def test_a_client_s_own_temperature_stays() -> None:
    panel = FakePanel(SEATS, {}, request=chat(temperature=0.1))

    (ask,) = sample_asks(panel, StrategySpec(kind="vote", temperature=0.8), 1)

    assert ask.request.envelope.temperature == 0.1


def test_answers_are_quoted_between_tags_that_can_not_be_foreseen() -> None:
    calls = [
        Call(0, Ask("x", SEATS[0], chat(), QUERY), text="one"),
        Call(1, Ask("x", SEATS[0], chat(), QUERY), text="2"),
    ]

    first, second = quoted(calls, 100), quoted(calls, 100)

    assert "number=1>\none\n</answer-" in first and "number=2>\n2\n" in first
    assert first != second


def test_what_is_too_long_loses_its_middle() -> None:
    text = " ".join(f"word{number}" for number in range(2000))

    short = shortened(text, 200)

    assert short.startswith("word0 ") and short.endswith("word1999") and LEFT_OUT in short


@given(st.text(max_size=2000), st.integers(50, 300))
def test_nothing_is_quoted_much_beyond_its_bound(text: str, tokens: int) -> None:
    assert estimate_tokens(shortened(text, tokens)) <= 2 * tokens + 20


def test_a_request_that_is_too_long_for_a_model_is_not_fitted() -> None:
    assert fitted(chat(), QUERY, SEATS[0].card) is not None
    assert fitted(chat(messages=[{"role": "user", "content": "word " * 20_000}]), QUERY, SEATS[0].card) is None
