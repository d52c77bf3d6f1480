"""Waiting, giving up, and what is written of requests that fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.batch_lines import Answers, BatchError, Line
from gateway.cli.batch_run import MOST_WAIT_S, BatchRun

LINE = Line(1, "a", "/v1/chat/completions", b'{"model":"auto","messages":[]}', "auto")
BUSY = httpx.Response(429, headers={"retry-after": "7"}, json={"error": {"message": "slow down", "code": "rate_limit"}})
FINE = httpx.Response(200, headers={"x-request-id": "req_1"}, json={"id": "c"})


class Told:
    """Answers in turn, the last one again and again; remembers paths and pauses."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.paths, self.pauses = list(answers), list[str](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def sent(folder: Path, told: Told) -> dict[str, Any]:
    answers = Answers.opened(folder / "answers.jsonl")
    async with httpx.AsyncClient(transport=httpx.MockTransport(told), base_url="http://gateway") as client:
        await BatchRun(client, 2, told.pause).send([LINE], answers)
    answers.close()
    found: dict[str, Any] = json.loads((folder / "answers.jsonl").read_text())
    return found


async def groups(told: Callable[[httpx.Request], httpx.Response], *lines: Line) -> list[tuple[str, ...]]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(told), base_url="http://gateway") as client:
        return list(await BatchRun(client, 2).groups(lines))


async def test_a_busy_gateway_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    told = Told(BUSY, BUSY, FINE)

    answer = await sent(tmp_path, told)

    assert told.pauses == [7.0, 7.0]
    assert answer["response"] == {"status_code": 200, "request_id": "req_1", "body": {"id": "c"}}
    assert (answer["custom_id"], answer["error"]) == ("a", None)


async def test_waiting_has_a_bound_and_what_was_said_is_then_the_answer(tmp_path: Path) -> None:
    told = Told(BUSY)

    answer = await sent(tmp_path, told)

    assert MOST_WAIT_S - 7 < sum(told.pauses) <= MOST_WAIT_S
    assert answer["response"]["status_code"] == 429
    assert answer["error"] == {"code": "rate_limit", "message": "slow down"}


async def test_without_a_time_told_pauses_double(tmp_path: Path) -> None:
    told = Told(httpx.Response(503), httpx.Response(503), httpx.ConnectError("refused"), FINE)

    answer = await sent(tmp_path, told)

    assert told.pauses == [1.0, 2.0, 4.0] and answer["error"] is None


async def test_a_request_that_got_no_answer_is_not_sent_twice(tmp_path: Path) -> None:
    told = Told(httpx.ReadTimeout("too slow"))

    answer = await sent(tmp_path, told)

    assert len(told.paths) == 1 and answer["response"] is None
    assert answer["error"] == {"code": "no_answer", "message": "too slow"}


async def test_what_no_router_chooses_is_grouped_by_its_model_and_not_asked_about() -> None:
    told = Told(FINE)

    found = await groups(told, Line(1, "a", "/v1/embeddings", b'{"model":"m","input":"x"}', "m"))

    assert found == [("m",)] and not told.paths


async def test_a_key_that_is_refused_stops_the_batch() -> None:
    refusal = httpx.Response(401, json={"error": {"message": "No such key.", "code": "invalid_api_key"}})

    with pytest.raises(BatchError, match=r"refuses the key: No such key\."):
        await groups(Told(refusal), LINE)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/messages", {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", {"model": "auto", "input": "hi"}),
        ("/v1/completions", {"model": "auto", "prompt": "hi"}),
    ],
)
async def test_every_dialect_is_routed_as_the_chat_that_it_becomes(url: str, body: dict[str, Any]) -> None:
    asked: list[Any] = []

    def told(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json={"chosen": {"model": "b"}, "experts": []})

    found = await groups(told, Line(1, "a", url, json.dumps(body).encode(), "auto"))

    assert found == [("b",)]
    assert asked[0]["model"] == "auto" and asked[0]["messages"][0]["role"] == "user"
