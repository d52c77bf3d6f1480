"""`POST /v1/completions`: OpenAI's older text form, read as a chat with one user message and written back.

What a chat can't be told (token ids, a suffix, an echo, several prompts) waits for an endpoint that takes the form.
"""

from __future__ import annotations

import os
from time import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import GatewayError, InvalidRequest
from gateway.wire.chat_reply import ChatReply, Choice, read_events, read_reply
from gateway.wire.chat_request import ChatRequest, ModelName, Original, StreamOptions, parse_chat
from gateway.wire.json_body import decode_fields, decode_typed
from gateway.wire.sse import DONE, event

MAX_PROMPTS = 2048
_OURS = ("prompt", "suffix", "best_of", "echo", "logprobs")
# A word of the estimator's that counts as about one token, for prompts that come as token ids.
_WORD = "token "


class CompletionsEnvelope(Struct):
    """The fields that differ from chat's; all others are validated as a chat request's."""

    model: ModelName
    prompt: str | list[Any]
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


_ENVELOPE = msgspec.json.Decoder(CompletionsEnvelope)


class CompletionsDialect:
    """See `Dialect`; errors are OpenAI's as they are."""

    name = "completions"

    def parse(self, body: bytes) -> ChatRequest:
        envelope = decode_typed(_ENVELOPE, body)
        fields = decode_fields(body)
        texts, reason = _prompts(envelope.prompt)
        reason = reason or _beyond_chat(envelope)
        chat = {name: raw for name, raw in fields.items() if name not in _OURS}
        chat["messages"] = Raw(msgspec.json.encode([{"role": "user", "content": "\n".join(texts)}]))
        request = parse_chat(msgspec.json.encode(chat))
        written = len(texts) * max(envelope.n or 1, envelope.best_of or 1)
        original = Original(self.name, fields)
        return ChatRequest(request.envelope, request.fields, original, native_only=reason, written=written)

    def writer(self, request: ChatRequest, request_id: str) -> CompletionsWriter:
        return CompletionsWriter()

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        return error.body()

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return event(error.body())


def _prompts(given: str | list[Any]) -> tuple[list[str], str | None]:
    """The prompts as texts, and why only an endpoint of this dialect can be asked; None where any can."""
    if isinstance(given, str):
        return [given], None
    if not 0 < len(given) <= MAX_PROMPTS and not all(type(one) is int for one in given):
        raise InvalidRequest(f"'prompt' takes 1 to {MAX_PROMPTS} prompts, not {len(given)}.", param="prompt")
    if all(isinstance(one, str) for one in given) and given:
        if len(given) == 1:
            return given, None
        return given, "Several 'prompt's in one request need an endpoint that takes completions as they are."
    rows = given if all(isinstance(one, list) for one in given) else [given]
    if not given or not all(row and all(type(one) is int and one >= 0 for one in row) for row in rows):
        raise InvalidRequest("'prompt' must be a text, texts, token ids, or lists of token ids.", param="prompt")
    return [_WORD * len(row) for row in rows], (
        "A 'prompt' of token ids needs an endpoint that takes completions as they are."
    )


def _beyond_chat(envelope: CompletionsEnvelope) -> str | None:
    """The first field that says something no chat can be told."""
    said = {
        "suffix": bool(envelope.suffix),
        "best_of": envelope.best_of not in (None, envelope.n or 1),
        "echo": bool(envelope.echo),
        "logprobs": envelope.logprobs is not None,
    }
    name = next((name for name, wanted in said.items() if wanted), None)
    return name and f"'{name}' needs an endpoint that takes completions as they are."


class CompletionsWriter:
    """Chat answers as text completions. Reasoning is left out: the older form has no place for it."""

    def __init__(self) -> None:
        self._head = {"id": f"cmpl-{os.urandom(12).hex()}", "object": "text_completion", "created": int(time())}

    def whole(self, body: bytes) -> bytes:
        reply = read_reply(body)
        return self._encoded(reply, reply.choices or [])

    def feed(self, frame: bytes) -> bytes:
        return b"".join(DONE if reply is None else self._chunk(reply) for reply in read_events(frame))

    def end(self) -> bytes:
        """The meter sees to the end mark."""
        return b""

    def _chunk(self, reply: ChatReply) -> bytes:
        choices = [one for one in reply.choices or () if one.finish_reason or one.said.text]
        return event(self._encoded(reply, choices)) if choices or reply.usage is not None else b""

    def _encoded(self, reply: ChatReply, choices: list[Choice]) -> bytes:
        said: dict[str, Any] = {**self._head, "model": reply.model, "choices": [_choice(one) for one in choices]}
        for name in ("usage", "system_fingerprint", "service_tier", "fingerpost"):
            value = getattr(reply, name)
            if value is not None:
                said[name] = value
        return msgspec.json.encode(said)


def _choice(one: Choice) -> dict[str, Any]:
    return {"text": one.said.text, "index": one.index or 0, "logprobs": None, "finish_reason": one.finish_reason}
