"""`POST /v1/messages`: Anthropic's API for clients. Requests become chat, chat answers become messages again.

The fields as they came in are kept beside the translation: an endpoint that speaks this API gets those.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import GatewayError, InvalidRequest
from gateway.wire.chat_request import ChatEnvelope, ChatRequest, ModelName, Original, Unit, text_of
from gateway.wire.json_body import decode_fields, decode_typed
from gateway.wire.messages_events import MessagesWriter, named_event
from gateway.wire.messages_fields import Notes
from gateway.wire.messages_reply import Asked
from gateway.wire.messages_to_chat import chat_of

MAX_TURNS = 4096
# For the first event of a stream only, which says something of the prompt before the upstream has.
CHARS_PER_TOKEN = 4

# Anthropic's names for what a status means; all others are `invalid_request_error` below 500, `api_error` above.
_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Turn(Struct):
    """One message; its blocks are looked at where they are translated."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class MessagesEnvelope(Struct):
    """The fields that are validated by type; bounds are Anthropic's."""

    model: ModelName
    max_tokens: Annotated[int, Meta(ge=0, le=2**31)]
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MAX_TURNS)]
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    temperature: Unit | None = None
    top_p: Unit | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=1024)] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    models: Annotated[list[ModelName], Meta(min_length=1, max_length=16)] | None = None


class CountEnvelope(MessagesEnvelope, kw_only=True):
    """`POST /v1/messages/count_tokens` takes the same fields but for the bound on output."""

    max_tokens: Annotated[int, Meta(ge=0, le=2**31)] = 1


_ENVELOPE = msgspec.json.Decoder(MessagesEnvelope)
_COUNT_ENVELOPE = msgspec.json.Decoder(CountEnvelope)
_ANY = msgspec.json.Decoder(dict[str, Any])


class MessagesDialect:
    """See `Dialect`."""

    name = "messages"

    def parse(self, body: bytes) -> ChatRequest:
        return self._read(_ENVELOPE, body)

    def parse_count(self, body: bytes) -> ChatRequest:
        """A request whose tokens are to be counted: the same, without `max_tokens`."""
        return self._read(_COUNT_ENVELOPE, body)

    def writer(self, request: ChatRequest, request_id: str) -> MessagesWriter:
        chars = sum(len(text_of(message)) for message in request.envelope.messages)
        return MessagesWriter(_asked(request), request_id, prompt_tokens=chars // CHARS_PER_TOKEN)

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        return msgspec.json.encode(_error(error, request_id))

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return named_event(_error(error, request_id))

    def _read(self, decoder: msgspec.json.Decoder[Any], body: bytes) -> ChatRequest:
        envelope = decode_typed(decoder, body)
        notes = Notes()
        chat = chat_of(_ANY.decode(body) | {"max_tokens": envelope.max_tokens}, notes)
        return ChatRequest(
            envelope=_chat_envelope(chat),
            fields={name: Raw(msgspec.json.encode(value)) for name, value in chat.items()},
            original=Original(self.name, decode_fields(body)),
            native_only=notes.left_out,
        )


def _chat_envelope(chat: dict[str, Any]) -> ChatEnvelope:
    try:
        return msgspec.convert(chat, ChatEnvelope)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request can't be read: {error}.") from error


def _asked(request: ChatRequest) -> Asked:
    stop, thinking = request.envelope.stop, request.fields.get("thinking")
    wanted = {} if thinking is None else msgspec.json.decode(thinking, type=dict[str, Any])
    return Asked(
        model=request.envelope.model,
        stops=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        thoughts=wanted.get("type") in ("enabled", "adaptive") and wanted.get("display") != "omitted",
    )


def _error(error: GatewayError, request_id: str) -> dict[str, Any]:
    status = error.http_status
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    detail = {"type": kind, "message": error.detail()["message"] or error.message}
    code = error.detail()["code"]
    return {"type": "error", "error": detail | ({"code": code} if code else {}), "request_id": request_id}
