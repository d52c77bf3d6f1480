"""The modes of the benchmark upstream over real sockets, and both kinds of load against it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from benchmarks.gateway import upstream
from benchmarks.gateway.client import Target
from benchmarks.gateway.load import closed_loop, open_loop
from tests.eventually import eventually

_CHUNKS = 5


@pytest_asyncio.fixture
async def server() -> AsyncIterator[upstream.UpstreamServer]:
    running = await upstream.start(0, chunks=_CHUNKS)
    yield running
    await running.close()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def _body(stream: bool = False, usage: bool = False) -> dict[str, object]:
    body: dict[str, object] = {"model": "bench-model", "messages": [{"role": "user", "content": "hello"}]}
    if stream:
        body["stream"] = True
    if usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _url(server: upstream.UpstreamServer, mode: str = "instant") -> str:
    return f"{server.base_url(mode)}/chat/completions"


async def test_instant_answers_a_completion_whose_usage_adds_up(
    server: upstream.UpstreamServer, http: httpx.AsyncClient
) -> None:
    answer = await http.post(_url(server), json=_body(), headers={"X-Trace": "7"})

    usage = answer.json()["usage"]
    assert 500 <= len(answer.content) <= 700
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert server.received[-1].headers["x-trace"] == "7"
    assert json.loads(server.received[-1].body) == _body()


@pytest.mark.parametrize("mode", ["instant", "paced"])
@pytest.mark.parametrize("usage", [False, True])
async def test_a_stream_has_its_chunks_then_usage_if_asked_then_done(
    server: upstream.UpstreamServer, http: httpx.AsyncClient, mode: str, usage: bool
) -> None:
    answer = await http.post(_url(server, mode), json=_body(stream=True, usage=usage))

    events = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]
    chunks = [json.loads(event) for event in events[:-1]]
    assert events[-1] == "[DONE]"
    assert len(chunks) == _CHUNKS + usage
    assert chunks[_CHUNKS - 1]["choices"][0]["finish_reason"] == "stop"
    assert ("usage" in chunks[-1]) is usage


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("error400", 400, "context_length_exceeded"),
        ("error401", 401, "invalid_api_key"),
        ("error429", 429, "rate_limit_exceeded"),
        ("error500", 500, None),
        ("no-such-mode", 404, "not_found"),
    ],
)
async def test_errors_have_the_shape_of_openai(
    server: upstream.UpstreamServer, http: httpx.AsyncClient, mode: str, status: int, code: str | None
) -> None:
    answer = await http.post(_url(server, mode), json=_body())

    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == code
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


async def test_html_bad_json_and_redirects_look_like_what_they_are(
    server: upstream.UpstreamServer, http: httpx.AsyncClient
) -> None:
    html, bad, redirect = [
        await http.post(_url(server, mode), json=_body()) for mode in ("html", "badjson", "redirect")
    ]

    assert html.headers["content-type"] == "text/html"
    assert bad.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        bad.json()
    assert (redirect.status_code, redirect.headers["location"]) == (302, "/instant/v1/chat/completions")


@pytest.mark.parametrize(("mode", "stream"), [("reset", False), ("half", False), ("half", True)])
async def test_broken_answers_break_and_do_not_count_as_left_by_the_client(
    server: upstream.UpstreamServer, http: httpx.AsyncClient, mode: str, stream: bool
) -> None:
    with pytest.raises(httpx.TransportError):
        await http.post(_url(server, mode), json=_body(stream))

    assert (server.stats.finished, server.stats.cut) == (0, 0)


async def test_a_client_that_leaves_a_stalled_stream_is_noticed(
    server: upstream.UpstreamServer, http: httpx.AsyncClient
) -> None:
    async with http.stream("POST", _url(server, "stall"), json=_body(stream=True)) as answer:
        first = await anext(answer.aiter_bytes())
    await eventually(lambda: server.stats.cut)

    assert first.startswith(b"data: {")
    assert server.stats.finished == 0


async def test_hang_never_answers(server: upstream.UpstreamServer, http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await http.post(_url(server, "hang"), json=_body(), timeout=0.05)

    assert server.stats.requests == 1


def _target(server: upstream.UpstreamServer, mode: str, stream: bool) -> Target:
    return Target(server.host, server.port, f"/{mode}/v1/chat/completions", json.dumps(_body(stream)).encode())


async def test_the_closed_loop_sends_as_many_as_asked_and_finds_streams_whole(server: upstream.UpstreamServer) -> None:
    result = await closed_loop(_target(server, "instant", stream=True), 4, requests=40, chunks=_CHUNKS)

    assert (result.requests, result.errors) == (40, {})
    assert result.first_event is not None and result.first_event.count == 40
    assert server.stats.streams == 40


async def test_the_open_loop_sends_as_many_as_planned_and_counts_refusals(server: upstream.UpstreamServer) -> None:
    good = await open_loop(_target(server, "instant", stream=False), 500, 0.1)
    refused = await open_loop(_target(server, "error429", stream=False), 500, 0.1)

    assert (good.requests, good.errors) == (50, {})
    assert (refused.requests, refused.errors) == (0, {"status 429": 50})


async def test_load_on_a_closed_port_counts_missing_connections(server: upstream.UpstreamServer) -> None:
    target = _target(server, "instant", stream=False)
    await server.close()

    result = await open_loop(target, 100, 0.05)

    assert (result.requests, result.errors) == (0, {"no connection": 5})


async def test_the_realistic_mode_waits_for_its_first_byte_alike_after_a_reseed(
    server: upstream.UpstreamServer, http: httpx.AsyncClient
) -> None:
    pace, dice = upstream.PACES["realistic"], server.dice
    drawn = [pace.first_byte_s(dice) for _ in range(200)]

    await http.get(f"http://{server.host}:{server.port}/reseed")

    assert [pace.first_byte_s(dice) for _ in range(200)] == drawn
    assert 0.1 < sorted(drawn)[100] < 0.14
