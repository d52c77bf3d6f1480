"""`/v1/responses`: answers in OpenAI's newer form, and the conversations that `previous_response_id` goes on from.

The gateway keeps conversations itself, whoever answers: the vendor's account is shared by all callers, so an id that
would be looked up there could be another caller's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from gateway.admission.rules import Caller
from gateway.api.dialect_route import end
from gateway.api.raw import RawRoute, authenticate
from gateway.errors import GatewayError, InvalidRequest, NotFound, Overloaded
from gateway.incoming import Incoming
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.response_store import ResponseStore, StoredResponse
from gateway.pipeline import Pipeline
from gateway.state import Gateway
from gateway.wire.chat_request import ChatRequest
from gateway.wire.reply import OneFrame, Reply
from gateway.wire.responses_dialect import ResponsesDialect
from gateway.wire.responses_items import Item, as_items
from gateway.wire.responses_listing import listed
from gateway.wire.responses_request import ResponsesEnvelope, previous_id_of
from gateway.wire.responses_stream import ResponsesWriter
from gateway.wire.sse import payload_of

log = logging.getLogger(__name__)

PATH = "/v1/responses"
MOST_STORED_BYTES = 16 * 1024 * 1024
_ENDS = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete)"')
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ResponsesRoute(RawRoute):
    """Reads what came before, asks the pipeline, writes or passes on, and keeps what later requests may need."""

    envelope = ResponsesEnvelope

    def __init__(self, pipeline: Pipeline, store: ResponseStore, **floor: Any) -> None:
        super().__init__(name="responses", **floor)
        self._dialect = ResponsesDialect()
        self._pipeline = pipeline
        self._store = store

    async def handle(self, incoming: Incoming) -> Reply | bytes:
        previous_id = previous_id_of(incoming.body)
        history = await self._history(previous_id, incoming.caller) if previous_id else []
        request = self._dialect.parse(incoming.body, history)
        keeper = Keeper(self._store, request, incoming.caller, previous_id)
        reply = await self._pipeline.chat(request, incoming)
        native = reply.dialect == self._dialect.name
        if reply.stream:
            writer = self._dialect.writer(request, incoming.record.id)
            frames = keeper.watched(reply) if native else _written(reply, writer, keeper, incoming.record.id)
            return Reply(frames, stream=True, headers=reply.headers)
        body = b"".join([frame async for frame in reply.frames])
        if not native:
            body = self._dialect.writer(request, incoming.record.id).whole(body)
        await keeper.keep(body)
        return Reply(OneFrame(body), stream=False, headers=reply.headers)

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        return self._dialect.error_body(error, request_id)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return self._dialect.error_event(error, request_id)

    async def _history(self, previous_id: str, caller: Caller) -> list[Item]:
        try:
            found = await self._store.get(previous_id, owner(caller))
        except DatabaseUnavailable as error:
            raise Overloaded("Stored responses can't be read just now; try again shortly.") from error
        if found is None:
            raise NotFound(
                f"There is no stored response '{previous_id[:80]}' of this key; it may have expired.",
                param="previous_response_id",
            )
        return msgspec.json.decode(found.items, type=list[Item])


def owner(caller: Caller) -> str:
    """Whose conversations these are: the key's, and those of the keys that it is rotated into."""
    return caller.root_id or caller.key_id


class Keeper:
    """Stores one response once it has ended; a failure is logged and costs only the continuation."""

    def __init__(self, store: ResponseStore, request: ChatRequest, caller: Caller, previous_id: str | None) -> None:
        self._store = store
        self._request = request
        self._caller = caller
        self._previous_id = previous_id

    async def watched(self, reply: Reply) -> AsyncGenerator[bytes, None]:
        """The frames as they are; the last is sent when the response is stored, so that its id can be used at once."""
        async with aclosing(reply.frames) as frames:
            async for frame in frames:
                if _ENDS.search(frame):
                    for text in frame.split(b"\n\n"):
                        if _ENDS.search(text):
                            await self.keep(_response_in(text))
                yield frame

    async def keep(self, body: bytes) -> None:
        """Store a finished response unless the request says otherwise."""
        original, found = self._request.original, _finished(body)
        if original is None or found is None or bytes(original.fields.get("store", b"true")) == b"false":
            return
        said = original.fields.get("input")  # a prompt of the vendor's, or what came before, may stand alone
        given = as_items(msgspec.json.decode(said)) if said is not None else []
        items = msgspec.json.encode([*given, *found["output"]])
        if len(body) + len(items) > MOST_STORED_BYTES:
            log.warning("response %s is not stored: its conversation is too long", found["id"])
            return
        row = StoredResponse(
            found["id"],
            owner(self._caller),
            body.decode(),
            items.decode(),
            self._previous_id,
            self._request.envelope.user,
        )
        try:
            await self._store.put(row)
        except DatabaseUnavailable as error:
            log.warning("response %s is not stored: %s", found["id"], error)


def _finished(body: bytes) -> dict[str, Any] | None:
    """A response that can be gone on from."""
    try:
        found = msgspec.json.decode(body)
    except _UNREADABLE:
        return None
    usable = isinstance(found, dict) and isinstance(found.get("id"), str) and isinstance(found.get("output"), list)
    return found if usable and found.get("status") in ("completed", "incomplete") else None


def _response_in(text: bytes) -> bytes:
    """The response inside of an event."""
    try:
        return bytes(msgspec.json.decode(payload_of(text), type=dict[str, msgspec.Raw])["response"])
    except (*_UNREADABLE, KeyError):
        return b""


async def _written(
    reply: Reply, writer: ResponsesWriter, keeper: Keeper, request_id: str
) -> AsyncGenerator[bytes, None]:
    """The frames in this dialect; a stream that breaks ends with its failed response and an error."""
    kept = False
    try:
        async with aclosing(reply.frames) as frames:
            async for frame in frames:
                try:
                    shown = writer.feed(frame)
                except GatewayError as error:
                    await end(frames, error)
                    raise
                if writer.response is not None and not kept:
                    kept = True
                    await keeper.keep(msgspec.json.encode(writer.response))
                if shown:
                    yield shown
        owed = writer.end()
    except GatewayError as error:
        owed = writer.failed(error, request_id)
    if owed:
        yield owed


router = APIRouter()


@router.get(f"{PATH}/{{response_id}}")
async def get_response(response_id: str, request: Request) -> Response:
    """A stored response as its client got it."""
    if request.query_params.get("stream", "").lower() == "true":
        raise InvalidRequest("A stored response can't be streamed again.", param="stream")
    found = await _own(response_id, request)
    return Response(found.body, media_type="application/json")


@router.delete(f"{PATH}/{{response_id}}")
async def delete_response(response_id: str, request: Request) -> dict[str, Any]:
    """Forget a stored response."""
    caller = await _caller(request)
    if not await _store(request).delete(response_id, owner(caller)):
        raise _unknown(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.get(f"{PATH}/{{response_id}}/input_items")
async def list_input_items(
    response_id: str, request: Request, limit: int = 20, order: str = "desc", after: str | None = None
) -> Response:
    """The items that a stored response answers, those of the conversation before it too."""
    found = await _own(response_id, request)
    return Response(listed(found.id, found.items, found.body, limit, order, after), media_type="application/json")


async def _caller(request: Request) -> Caller:
    gateway: Gateway = request.app.state.gateway
    return await authenticate(request.scope, gateway.keyring)


def _store(request: Request) -> ResponseStore:
    gateway: Gateway = request.app.state.gateway
    return gateway.responses


async def _own(response_id: str, request: Request) -> StoredResponse:
    caller = await _caller(request)
    found = await _store(request).get(response_id, owner(caller))
    if found is None:
        raise _unknown(response_id)
    return found


def _unknown(response_id: str) -> NotFound:
    return NotFound(f"There is no stored response '{response_id[:80]}' of this key.", param="response_id")
