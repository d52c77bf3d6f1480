"""Money, departures, dialects and effort: what holds for every strategy alike."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.strategies.choir import Choir, Voice
from tests.integration.strategies.conftest import Line
from tests.integration.tenants import tenant
from tests.quickest import quickest, within
from tests.serving import Served

HELLO = [{"role": "user", "content": "What is it?"}]


async def test_a_budget_that_covers_few_calls_ends_the_vote_and_is_never_exceeded(
    strategic: Served, line: Line, choir: Choir
) -> None:
    choir.sings(large=Voice(["one", "two", "three", "four", "five"]))
    made = tenant(strategic, name="few", limit_usd=0.008)
    headers = {"Authorization": f"Bearer {made.key}"}

    async with httpx.AsyncClient(base_url=strategic.url, headers=headers, timeout=20) as client:
        body = {"model": "auto:vote", "messages": HELLO, "max_tokens": 8}
        answer = await client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200, answer.text
    row = line.row(answer)
    assert [part["error_code"] for part in row["children"]].count("budget_exceeded") >= 1
    assert "No further call was made" in row["reason"]
    level = await made.settled()
    assert level["spent_nanousd"] == row["cost_nanousd"] <= 8_000_000


async def test_a_budget_that_covers_nothing_refuses_as_for_a_plain_call(strategic: Served, choir: Choir) -> None:
    choir.sings(large=Voice(["one"]))
    made = tenant(strategic, name="none", limit_usd=0.00001)
    headers = {"Authorization": f"Bearer {made.key}"}

    async with httpx.AsyncClient(base_url=strategic.url, headers=headers, timeout=20) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "auto:vote", "messages": HELLO})

    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "budget_exceeded")
    assert choir.models() == []


async def test_many_votes_at_once_stay_within_one_budget(strategic: Served, choir: Choir) -> None:
    choir.sings(**{name: Voice(["yes"], wait_s=0.02) for name in ("small", "middle", "large")})
    made = tenant(strategic, name="crowd", limit_usd=0.03)
    headers = {"Authorization": f"Bearer {made.key}"}

    async with httpx.AsyncClient(base_url=strategic.url, headers=headers, timeout=20) as client:
        body = {"model": "auto:vote", "messages": HELLO, "max_tokens": 8}
        answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(12)))

    assert {answer.status_code for answer in answers} <= {200, 402}
    level = await made.settled()
    shown = sum(answer.json()["usage"]["cost"] for answer in answers if answer.status_code == 200)
    assert level["spent_nanousd"] == pytest.approx(shown * 1e9)
    assert level["spent_nanousd"] <= 30_000_000 and level["reserved_nanousd"] == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("policy", ["race", "vote", "fuse", "cascade", "judged"])
@quickest
async def test_a_client_that_leaves_ends_all_calls_within_200_ms(
    strategic: Served, line: Line, choir: Choir, policy: str, stream: bool
) -> None:
    choir.sings(**{name: Voice(["x"], wait_s=30) for name in ("small", "middle", "large")})
    expected = {"race": 3, "vote": 3, "fuse": 2, "cascade": 1, "judged": 3}[policy]

    async with httpx.AsyncClient(base_url=strategic.url, headers=strategic.headers, timeout=20) as client:
        body = {"model": f"auto:{policy}", "messages": HELLO, "stream": stream}
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await eventually(lambda: len(choir.asked) == expected)
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gone = time.monotonic()
    await eventually(lambda: len(choir.left) == expected)

    within(0.2, max(at for _, at in choir.left) - gone)


async def test_a_client_that_leaves_a_last_round_s_stream_is_charged_for_what_was_written(
    strategic: Served, line: Line, choir: Choir
) -> None:
    words = Voice(["word " * 200], word_s=0.02)
    choir.sings(small=Voice(["I'm sorry, I can't help with that."]), middle=Voice(["x"]), large=words)
    body = {"model": "auto:fuse", "messages": HELLO, "stream": True}
    choir.sings(middle=Voice(["one"]), large=Voice(["two"]), small=words)

    async with (
        httpx.AsyncClient(base_url=strategic.url, headers=strategic.headers, timeout=20) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        request_id = answer.headers["x-request-id"]
        await anext(answer.aiter_bytes())

    row = await asyncio.to_thread(line.row_of, request_id)
    assert (row["status"], row["error_code"]) == (499, "client_disconnected")
    assert [part["status"] for part in row["children"]] == [200, 200, 499]
    assert row["cost_nanousd"] == sum(part["cost_nanousd"] for part in row["children"])
    assert row["children"][2]["cost_nanousd"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_messages_clients_get_messages(line: Line, choir: Choir, stream: bool) -> None:
    choir.sings(large=Voice(["42"]))
    body = {"model": "auto:vote", "max_tokens": 50, "messages": HELLO, "stream": stream}

    answer = line.client.post("/v1/messages", json=body)

    assert answer.status_code == 200, answer.text
    if stream:
        assert '"type":"text_delta","text":"42"' in answer.text and "event: message_stop" in answer.text
        assert '"output_tokens":3' in answer.text
    else:
        assert answer.json()["content"] == [{"type": "text", "text": "42"}]
        assert (answer.json()["usage"]["input_tokens"], answer.json()["usage"]["output_tokens"]) == (30, 3)
    assert all("cache_control" not in json.dumps(one) for one in choir.asked)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_clients_get_responses(line: Line, choir: Choir, stream: bool) -> None:
    choir.sings(middle=Voice(["m"]), large=Voice(["l"]), small=Voice(["fused text"]))

    answer = line.client.post("/v1/responses", json={"model": "auto:fuse", "input": "What is it?", "stream": stream})

    assert answer.status_code == 200, answer.text
    if stream:
        assert "event: response.completed" in answer.text and '"text":"fused text"' in answer.text
        assert '"input_tokens":30' in answer.text
    else:
        assert answer.json()["output"][-1]["content"][0]["text"] == "fused text"
        assert answer.json()["usage"]["input_tokens"] == 30


@pytest.mark.parametrize("stream", [False, True])
def test_completions_clients_get_completions(line: Line, choir: Choir, stream: bool) -> None:
    choir.sings(small=Voice(["I am so"], logprob=-0.1))

    answer = line.client.post("/v1/completions", json={"model": "auto:cascade", "prompt": "Go", "stream": stream})

    assert answer.status_code == 200, answer.text
    assert '"text":"I am so"' in answer.text


def test_a_model_that_reasons_is_told_how_hard_where_the_client_does_not_say(line: Line, choir: Choir) -> None:
    choir.sings(thinker=Voice(["ok"]))

    easy, said = line.ask("thinking"), line.ask("thinking", reasoning_effort="high")

    assert [one["reasoning_effort"] for one in choir.asked] == ["low", "high"]
    assert [one.get("effort") for one in line.row(easy)["attempts"]] == ["low"]
    assert [one.get("effort") for one in line.row(said)["attempts"]] == [None]


def test_effort_holds_for_the_calls_of_a_strategy(line: Line, choir: Choir) -> None:
    choir.sings(thinker=Voice(["ok"]))

    line.ask("careful")

    assert {one["reasoning_effort"] for one in choir.asked} == {"low"}


def test_the_answer_must_have_begun_in_the_client_s_time(line: Line, choir: Choir) -> None:
    choir.sings(large=Voice(["x"], wait_s=5))
    headers = {"x-fingerpost-timeout": "0.3"}

    began = time.monotonic()
    answer = line.client.post("/v1/chat/completions", json={"model": "auto:vote", "messages": HELLO}, headers=headers)

    assert answer.status_code == 504 and time.monotonic() - began < 2
