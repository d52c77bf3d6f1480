"""Every strategy over HTTP: what is asked upstream, what the client gets, what the ledger keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.strategies.choir import PROMPT_TOKENS, Choir, Voice
from tests.integration.strategies.conftest import MODELS, Line

REFUSAL = "I'm sorry, but I can't help with that request."


def cost_of(model: str, tokens: int, prompt: int = PROMPT_TOKENS) -> int:
    """What a call costs in nano-dollars."""
    _, price_in, price_out = MODELS[model]
    return round((prompt * price_in + tokens * price_out) * 1000)


def said(answer: Any) -> str:
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def balanced(row: dict[str, Any]) -> None:
    """A request's usage and cost are the sums of its calls'."""
    parts = row["children"]
    assert row["cost_nanousd"] == sum(part["cost_nanousd"] or 0 for part in parts)
    assert row["input_tokens"] == sum(part["input_tokens"] or 0 for part in parts)
    assert row["output_tokens"] == sum(part["output_tokens"] or 0 for part in parts)
    assert [part["seq"] for part in parts] == list(range(len(parts)))


def test_a_cascade_stops_at_a_cheap_answer_that_looks_sure(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice(["Four of them"], logprob=-0.1), middle=Voice(["no"]), large=Voice(["no"]))

    answer = line.ask("cascade")

    assert said(answer) == "Four of them"
    assert choir.models() == ["small"]
    row = line.row(answer)
    assert (row["strategy"], row["model"], row["status"]) == ("cascade", "small", 200)
    assert row["children"][0]["signals"]["logprob_mean"] == -0.1
    assert answer.json()["choices"][0].get("logprobs") is None
    balanced(row)


def test_a_cascade_goes_on_from_a_refusal_and_its_cost_counts(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice([REFUSAL]), middle=Voice(["Four of them"], logprob=-0.1), large=Voice(["no"]))

    answer = line.ask("cascade")

    assert said(answer) == "Four of them"
    row = line.row(answer)
    parts = row["children"]
    assert [(part["model"], part["role"], part["chosen"]) for part in parts] == [
        ("small", "round", False),
        ("middle", "round", True),
    ]
    assert parts[0]["signals"]["refused"] is True
    expected = cost_of("small", len(REFUSAL.split())) + cost_of("middle", 3)
    assert row["cost_nanousd"] == expected
    assert answer.json()["usage"]["cost"] == pytest.approx(expected / 1e9)
    assert answer.headers["x-fingerpost-strategy"] == "cascade; calls=2"
    balanced(row)


def test_a_cascade_streams_its_last_round_as_it_comes(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice([REFUSAL]), middle=Voice([REFUSAL]), large=Voice(["one two three"], word_s=0.05))

    answer = line.ask("cascade", stream=True, stream_options={"include_usage": True})

    frames = events(answer.text)
    assert "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames if frame["choices"]) == (
        "one two three"
    )
    assert [one.get("stream") for one in choir.asked] == [None, None, True]
    row = line.row(answer)
    assert [part["chosen"] for part in row["children"]] == [False, False, True]
    assert frames[-1]["usage"]["cost"] == pytest.approx(row["cost_nanousd"] / 1e9)
    assert frames[-1]["usage"]["prompt_tokens"] == 3 * PROMPT_TOKENS
    balanced(row)


def test_the_first_racer_wins_and_the_losers_are_hung_up_on(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice(["small"], wait_s=5), middle=Voice(["middle"], wait_s=0.05), large=Voice(["x"], wait_s=5))

    answer = line.ask("race")

    assert said(answer) == "middle"
    row = line.row(answer)
    assert sorted(model for model, _ in choir.left) == ["large", "small"]
    assert {part["model"]: part["error_code"] for part in row["children"]} == {
        "small": "cancelled",
        "middle": None,
        "large": "cancelled",
    }
    lost = [part for part in row["children"] if part["model"] != "middle"]
    assert all(part["cost_nanousd"] > 0 and part["usage_estimated"] for part in lost)
    assert row["usage_estimated"]
    assert sorted(one["outcome"] for one in row["attempts"]) == ["lost", "lost", "ok"]
    balanced(row)


def test_a_racer_that_fails_is_passed_over(line: Line, choir: Choir) -> None:
    frail = {"frail-a": Voice([""], status=500), "frail-b": Voice([""], status=503)}
    choir.sings(small=Voice(["ok"], wait_s=0.3), **frail)

    answer = line.ask("frailrace")

    assert said(answer) == "ok"
    row = line.row(answer)
    assert sorted(part["status"] for part in row["children"]) == [200, 502, 503]


def test_a_streamed_race_is_won_by_the_first_to_speak(line: Line, choir: Choir) -> None:
    choir.sings(
        small=Voice(["one two three"], wait_s=0.05, word_s=0.2), middle=Voice(["x y"], wait_s=3), large=Voice(["x"], 3)
    )

    answer = line.ask("race", stream=True)

    assert answer.headers["x-fingerpost-model"] == "small"
    assert events(answer.text)[-1]["choices"][0]["finish_reason"] == "stop"
    row = line.row(answer)
    assert (row["model"], row["status"], row["finish_reason"]) == ("small", 200, "stop")
    assert sorted(model for model, _ in choir.left) == ["large", "middle"]
    balanced(row)


def test_a_vote_takes_what_most_samples_end_on(line: Line, choir: Choir) -> None:
    texts = ["The answer is 41.", "So the answer is **42**.", "The answer is 42.", "I say: the answer is 43.", "42"]
    choir.sings(large=Voice(texts))

    answer = line.ask("vote", seed=7)

    assert "42" in said(answer)
    row = line.row(answer)
    assert "agree" in row["reason"]
    assert sorted(one["seed"] for one in choir.asked) == list(range(7, 7 + len(row["children"])))
    assert next(part for part in row["children"] if part["chosen"])["signals"]["agreement"] > 0.5
    balanced(row)


def test_a_vote_stops_early_once_the_lead_can_not_be_overtaken(line: Line, choir: Choir) -> None:
    choir.sings(large=Voice(["42"]))

    answer = line.ask("vote")

    assert len(line.row(answer)["children"]) == 3


def test_a_chosen_answer_is_streamed_as_one_chunk(line: Line, choir: Choir) -> None:
    choir.sings(large=Voice(["42"]))

    answer = line.ask("vote", stream=True, stream_options={"include_usage": True})

    frames = events(answer.text)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert [frame["choices"][0]["delta"] for frame in frames if frame["choices"]] == [
        {"role": "assistant", "content": "42"},
        {},
    ]
    assert frames[-1]["usage"]["completion_tokens"] == 3
    assert all("stream" not in one for one in choir.asked)


def test_the_likeliest_sample_is_picked_by_its_tokens(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice(["a"], logprob=-2.0), middle=Voice(["b"], logprob=-0.2), large=Voice(["c"], logprob=-1.0))

    answer = line.ask("likely")

    assert said(answer) == "b"
    assert {part["model"]: part["signals"]["score"] for part in line.row(answer)["children"]} == {
        "small": -2.0,
        "middle": -0.2,
        "large": -1.0,
    }


def test_a_judge_picks_by_number_and_is_paid_for(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice(["first", "second", "third"]), large=Voice(["2"]))

    answer = line.ask("judged", temperature=0.7, response_format={"type": "text"})

    row = line.row(answer)
    assert [part["role"] for part in row["children"]] == ["sample", "sample", "sample", "judge"]
    judged = choir.asked[-1]
    assert judged["max_tokens"] == 16 and "response_format" not in judged
    assert said(answer) in judged["messages"][-1]["content"].split("number=2>")[1].split("</answer")[0]
    assert row["model"] == "small"
    balanced(row)


def test_an_aggregator_writes_the_answer_from_the_experts(line: Line, choir: Choir) -> None:
    choir.sings(middle=Voice(["from middle"]), large=Voice(["from large"]), small=Voice(["fused answer"]))

    answer = line.ask("fuse", stream=True)

    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in events(answer.text))
    assert text == "fused answer"
    note = choir.asked[-1]["messages"][-1]["content"]
    assert "from middle" in note and "from large" in note and choir.asked[-1]["stream"] is True
    row = line.row(answer)
    assert [part["role"] for part in row["children"]] == ["expert", "expert", "aggregator"]
    assert row["model"] == "small" and row["finish_reason"] == "stop"
    balanced(row)


def test_the_best_expert_stands_in_for_an_aggregator_that_fails(line: Line, choir: Choir) -> None:
    frail = {"frail-f": Voice([""], status=500)}
    choir.sings(middle=Voice(["from middle"]), large=Voice(["from large"]), **frail)

    answer = line.ask("frailfuse")

    assert said(answer) == "from large"
    assert "the aggregator 'frail-f' failed" in line.row(answer)["reason"]


def test_a_request_with_tools_is_answered_by_one_call_and_says_why(line: Line, choir: Choir) -> None:
    choir.sings(large=Voice(["plain"]))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

    answer = line.ask("vote", tools=tools)

    row = line.row(answer)
    assert (row["strategy"], row["children"]) == (None, [])
    assert "Strategy 'vote' does not apply, since the request offers tools." in row["reason"]
    assert "x-fingerpost-strategy" not in answer.headers


def test_a_strategy_of_a_category_is_that_category_s_only(line: Line, choir: Choir) -> None:
    choir.sings(small=Voice(["7"]), large=Voice(["8"]))

    summed, other = line.ask("bycategory", "the sum of 3 and 4"), line.ask("bycategory", "hello")

    assert line.row(summed)["strategy"] == "vote" and said(summed) == "7"
    assert line.row(other)["strategy"] is None and said(other) == "8"


def test_all_that_fail_end_in_the_usual_error(line: Line, choir: Choir) -> None:
    choir.sings(**{f"frail-{letter}": Voice([""], status=500) for letter in "cde"})

    answer = line.ask("allfrail")

    assert answer.status_code == 502
    row = line.row(answer)
    assert (row["status"], len(row["children"]), row["cost_nanousd"]) == (502, 3, None)


def test_who_was_not_asked_steps_in_where_all_samples_fail(line: Line, choir: Choir) -> None:
    frail = {"frail-g": Voice([""], status=500)}
    choir.sings(small=Voice(["rescued"]), **frail)

    answer = line.ask("frailvote")

    assert said(answer) == "rescued"
    assert line.row(answer)["children"][-1]["role"] == "fallback"


def test_the_policy_s_limit_of_a_request_s_cost_holds_for_all_calls_together(line: Line, choir: Choir) -> None:
    choir.sings(large=Voice(["42"]))

    answer = line.ask("capped", max_tokens=20)

    row = line.row(answer)
    assert said(answer) == "42"
    refused = [part for part in row["children"] if part["status"] == 402]
    assert refused and "limit of $0.01" in row["reason"]
    assert row["cost_nanousd"] <= 10_000_000


def test_explain_names_the_strategy(line: Line) -> None:
    body = {"model": "auto:vote", "messages": [{"role": "user", "content": "hi"}]}

    found = line.client.post("/v1/route", json=body).json()

    assert found["strategy"] == "vote" and found["experts"] == []


def test_explain_names_the_experts_that_would_be_asked(line: Line, choir: Choir) -> None:
    choir.sings(**{name: Voice([f"of {name}"]) for name in ("small", "middle", "large")})
    body = {"model": "auto:fuse", "messages": [{"role": "user", "content": "What is it?"}]}

    found = line.client.post("/v1/route", json=body).json()
    line.ask("fuse")

    assert found["experts"] == ["large", "middle"]
    assert sorted(choir.models()[:2]) == sorted(found["experts"])


def test_nothing_is_tried_for_learning_s_sake_where_a_strategy_answers(line: Line) -> None:
    body = {"model": "auto:curious", "messages": [{"role": "user", "content": "hi"}]}

    told = [line.client.post("/v1/route", json=body).raise_for_status().json() for _ in range(10)]

    assert {one["candidates"][0]["model"] for one in told} == {"large"}
    assert {one["candidates"][0]["propensity"] for one in told} == {1.0}


def events(text: str) -> list[dict[str, Any]]:
    """The JSON payloads of a stream."""
    payloads = [part.removeprefix("data: ") for part in text.split("\n\n") if part.startswith("data: ")]
    return [json.loads(one) for one in payloads if one != "[DONE]"]
