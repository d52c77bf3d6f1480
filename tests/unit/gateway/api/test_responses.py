"""The route of responses when the database is away: what was stored can't be read, but nobody's answer is lost."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from gateway.admission.rules import Caller
from gateway.api.responses import ResponsesRoute
from gateway.errors import Overloaded, UpstreamBroken
from gateway.incoming import Incoming
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.record import Record
from gateway.ledger.response_store import ResponseStore, StoredResponse
from gateway.pipeline import Pipeline
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import OneFrame, Reply
from gateway.wire.sse import event
from tests.unit.gateway.wire import chat_answers

CALLER = Caller("key-a", "application", None, None)


class Away:
    """A store whose database does not answer."""

    async def put(self, response: StoredResponse) -> None:
        raise DatabaseUnavailable("the database did not answer")

    async def get(self, response_id: str, key_id: str) -> StoredResponse | None:
        raise DatabaseUnavailable("the database did not answer")


class Answering:
    """A pipeline that gives one answer."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def chat(self, request: ChatRequest, incoming: Incoming) -> Reply:
        return self.reply


def route(reply: Reply) -> ResponsesRoute:
    floor: dict[str, Any] = {"keyring": None, "ledger": None, "observer": None, "max_body": 1, "body_timeout_s": 1.0}
    return ResponsesRoute(cast(Pipeline, Answering(reply)), cast(ResponseStore, Away()), **floor)


def incoming(**fields: Any) -> Incoming:
    body = json.dumps({"model": "m", "input": "x", **fields}).encode()
    return Incoming(body, CALLER, Record(id="req_1", at=0.0, route="responses"), 0.0, {})


async def frames(*given: bytes | UpstreamBroken) -> AsyncGenerator[bytes, None]:
    for frame in given:
        if isinstance(frame, UpstreamBroken):
            raise frame
        yield frame


async def test_an_answer_is_given_though_it_can_be_stored_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    whole = Reply(OneFrame(chat_answers.whole({"content": "hi"})), stream=False)

    with caplog.at_level(logging.WARNING):
        reply = await route(whole).handle(incoming())

    assert isinstance(reply, Reply)
    (body,) = [frame async for frame in reply.frames]
    assert json.loads(body)["status"] == "completed"
    assert "is not stored" in caplog.text


async def test_a_conversation_that_cant_be_read_is_a_reason_to_try_again() -> None:
    with pytest.raises(Overloaded):
        await route(Reply(OneFrame(b""), stream=False)).handle(incoming(previous_response_id="resp_1"))


async def test_nothing_is_asked_of_the_store_where_nothing_is_to_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    chunks = chat_answers.chunks({"content": "hi"}, 1)

    reply = await route(Reply(frames(*chunks), stream=True)).handle(incoming(stream=True, store=False))

    assert isinstance(reply, Reply)
    text = b"".join([frame async for frame in reply.frames])
    assert b"event: response.completed" in text and "is not stored" not in caplog.text


async def test_a_stream_that_breaks_ends_with_its_failed_response_and_an_error() -> None:
    chunks = chat_answers.chunks({"content": "hi"}, 1)[:2]
    broken = Reply(frames(*chunks, UpstreamBroken("It broke.")), stream=True)

    reply = await route(broken).handle(incoming(stream=True))

    assert isinstance(reply, Reply)
    events = [frame async for frame in reply.frames]
    assert events[-1].startswith(b"event: response.failed") and b"\n\nevent: error\n" in events[-1]


async def test_the_answers_source_is_told_what_was_wrong_with_it() -> None:
    told: list[BaseException] = []

    async def going_back() -> AsyncGenerator[bytes, None]:
        try:
            for index in (1, 0):
                call = {"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": "{}"}}
                yield event(json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode())
        except BaseException as error:
            told.append(error)
            raise

    reply = await route(Reply(going_back(), stream=True)).handle(incoming(stream=True))

    assert isinstance(reply, Reply)
    events = b"".join([frame async for frame in reply.frames])
    assert b"event: response.failed" in events
    assert [type(error) for error in told] == [UpstreamBroken]
