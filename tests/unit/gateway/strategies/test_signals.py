"""Signals of answers as upstreams send them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from gateway.strategies.signals import Signals, first_entropy, mean_logprob, mean_margin, signals_of
from gateway.wire.chat_reply import read_reply
from routers.cascade_policy import COMPARABLE, FIRST_ENTROPY, LOGPROB_MEAN, MARGIN_MEAN, REFUSAL, TRUNCATED
from routers.decision import Forecast

FORECAST = Forecast("e", 0.5, 0.4, 0.6, 10, 30, 5.0)


def signals(content: str | None = "42", tokens: int = 5, **choice: Any) -> Signals:
    message = {"role": "assistant", "content": content} | choice.pop("message", {})
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice]}
    return signals_of(read_reply(msgspec.json.encode(body)), FORECAST, tokens)


def test_an_answer_s_length_is_told_beside_its_forecast() -> None:
    assert signals(tokens=25).length_ratio == 2.5


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"finish_reason": "length"}, TRUNCATED),
        ({"finish_reason": "content_filter"}, REFUSAL),
        ({"message": {"content": None, "refusal": "No."}}, REFUSAL),
        ({"message": {"content": "I'm sorry, but I can't help with that."}}, REFUSAL),
        ({"message": {"content": " "}}, REFUSAL),
        ({}, COMPARABLE),
    ],
)
def test_what_spoils_an_answer_or_lets_it_be_compared_is_seen(choice: dict[str, Any], name: str) -> None:
    assert signals(**choice).numbers()[name] == 1.0


def test_calls_of_tools_are_no_empty_answer() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]

    assert not signals(None, message={"tool_calls": calls}, finish_reason="tool_calls").empty


def test_probabilities_count_where_they_are_told() -> None:
    told = signals(logprobs={"content": [{"token": "4", "logprob": -1.0}, {"token": "2", "logprob": -3.0}]})

    assert told.numbers()[LOGPROB_MEAN] == -2.0
    assert LOGPROB_MEAN not in signals().numbers()


def token(*chances: float) -> dict[str, Any]:
    """A token with its alternatives, by their probabilities."""
    tops = [{"token": "x", "logprob": math.log(chance) if chance else -9999.0} for chance in chances]
    return {"token": "x", "logprob": tops[0]["logprob"], "top_logprobs": tops}


def test_the_entropy_of_the_first_token_is_that_of_its_alternatives() -> None:
    even, sure = signals(logprobs={"content": [token(0.5, 0.5), token(1.0, 0.0)]}), token(1.0, 0.0)

    assert even.numbers()[FIRST_ENTROPY] == pytest.approx(math.log(2))
    assert signals(logprobs={"content": [sure]}).numbers()[FIRST_ENTROPY] == pytest.approx(0, abs=1e-9)


def test_what_was_not_told_counts_as_one_alternative() -> None:
    told = signals(logprobs={"content": [token(0.5, 0.25)]})

    assert told.numbers()[FIRST_ENTROPY] == pytest.approx(1.5 * math.log(2))


def test_the_margin_is_the_lead_of_the_likeliest_in_the_mean() -> None:
    told = signals(logprobs={"content": [token(0.2, 0.7), token(0.9, 0.1)]})

    assert told.numbers()[MARGIN_MEAN] == pytest.approx(0.65)
    assert told.shown()["margin_mean"] == 0.65


def test_without_alternatives_there_is_neither_entropy_nor_margin() -> None:
    told = signals(logprobs={"content": [{"token": "4", "logprob": -1.0}]}).numbers()

    assert FIRST_ENTROPY not in told
    assert MARGIN_MEAN not in told


@pytest.mark.parametrize("tops", ["x", [1], [{"logprob": "x"}, {}], {"a": 1}, None])
def test_strange_alternatives_are_none(tops: Any) -> None:
    told = {"content": [{"token": "4", "logprob": -1.0, "top_logprobs": tops}]}

    assert (first_entropy(told), mean_margin(told)) == (None, None)


@pytest.mark.parametrize("strange", [None, {}, {"content": []}, {"content": "x"}, {"content": [1, {"logprob": "x"}]}])
def test_what_is_no_probability_is_none(strange: Any) -> None:
    assert mean_logprob(strange) is None


def test_impossible_tokens_do_not_outweigh_all_others() -> None:
    assert mean_logprob({"content": [{"logprob": -9999.0}, {"logprob": 0.0}]}) == -50.0


def test_the_ledger_is_told_only_what_was_seen() -> None:
    assert signals().shown() == {"finish_reason": "stop", "length_ratio": 0.5, "comparable": True}
