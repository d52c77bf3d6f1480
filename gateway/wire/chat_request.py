"""`POST /v1/chat/completions` as it came in: validated where we rely on it, otherwise kept byte for byte.

The body is read twice in C: once into the typed envelope (types and ranges), once into raw top-level fields, so
that forwarding splices only what the gateway changes and every unknown field travels on untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import InvalidRequest
from gateway.wire.json_body import decode_fields, decode_typed

Positive = Annotated[int, Meta(ge=1, le=2**31)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


class Part(Struct):
    """One content part; only what the gateway looks at."""

    type: str
    text: str | None = None
    refusal: str | None = None


class Message(Struct):
    """One message; roles beyond the known ones are the upstream's business."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    function_call: Any = None
    refusal: str | None = None
    audio: Any = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class ResponseFormat(Struct):
    type: str


class ChatEnvelope(Struct):
    """The fields the gateway validates; bounds are OpenAI's."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    tools: Annotated[list[Any], Meta(max_length=1024)] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Unit | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    models: Annotated[list[ModelName], Meta(min_length=1, max_length=16)] | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The request as it came in, where that was another dialect than chat: its top-level fields as raw JSON.

    `headers` are those of its own dialect that an endpoint of that dialect may be sent too.
    """

    dialect: str
    fields: dict[str, Raw]
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated chat request with its raw top-level fields in their order; what all other dialects become.

    `original` is what an endpoint that speaks the client's own dialect is sent instead. `upstream_headers` travel on
    (trace context only). `cap_tokens` is a bound on output that a hard budget sets beside the caller's own.
    `native_only` says what only an endpoint of the client's own dialect can be told; others refuse with it. `written`
    is how many answers are written where the envelope's `n` does not say. Requests of one `circle` may share what a
    model in this process has computed of their beginnings.
    """

    envelope: ChatEnvelope
    fields: dict[str, Raw]
    original: Original | None = None
    upstream_headers: tuple[tuple[str, str], ...] = ()
    cap_tokens: int | None = None
    native_only: str | None = None
    written: int | None = None
    circle: str = ""

    @property
    def choices(self) -> int:
        """How many answers the upstream writes; a bound on output holds for each of them."""
        return self.written or self.envelope.n or 1

    @property
    def stream(self) -> bool:
        return bool(self.envelope.stream)

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage chunk of a stream."""
        options = self.envelope.stream_options
        return bool(options and options.include_usage)

    @property
    def max_output_tokens(self) -> int | None:
        """The caller's cap on output tokens, whichever of the two names it used."""
        return self.envelope.max_completion_tokens or self.envelope.max_tokens

    def wire_body(self, wire_model: str) -> bytes:
        """The body for an OpenAI-compatible upstream: the model's wire name, and usage asked of every stream."""
        fields = dict(self.fields)
        fields["model"] = Raw(msgspec.json.encode(wire_model))
        if self.envelope.models is not None:
            del fields["models"]
        if self.cap_tokens is not None:
            self._cap(fields, self.cap_tokens)
        if self.stream and not self.wants_usage:
            fields["stream_options"] = self._options_with_usage()
        return msgspec.json.encode(fields)

    def _cap(self, fields: dict[str, Raw], cap_tokens: int) -> None:
        """Lower the caller's own bound, by the name it used, or set one."""
        name = "max_tokens" if self.envelope.max_tokens is not None else "max_completion_tokens"
        if "max_tokens" not in fields and "max_completion_tokens" not in fields:
            name = "max_tokens"
        given = self.max_output_tokens
        fields[name] = Raw(msgspec.json.encode(min(cap_tokens, given or cap_tokens)))

    def _options_with_usage(self) -> Raw:
        raw = self.fields.get("stream_options")
        options = msgspec.json.decode(raw) if raw is not None else None
        return Raw(msgspec.json.encode({**(options or {}), "include_usage": True}))


_ENVELOPE = msgspec.json.Decoder(ChatEnvelope)

ROLES: frozenset[str] = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def parse_chat(body: bytes) -> ChatRequest:
    """Validate a body; `InvalidRequest` names the field (`param`) and what was expected."""
    envelope = decode_typed(_ENVELOPE, body)
    for position, message in enumerate(envelope.messages):
        _check_message(position, message)
    if envelope.top_logprobs and not envelope.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    if envelope.stream_options is not None and not envelope.stream:
        raise InvalidRequest("'stream_options' is only allowed with 'stream': true.", param="stream_options")
    return ChatRequest(envelope=envelope, fields=decode_fields(body))


def _check_message(position: int, message: Message) -> None:
    where = f"messages[{position}]"
    if message.role not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise InvalidRequest(
            f"'{where}.role' must be one of {known}, not '{message.role[:40]}'.", param=f"{where}.role"
        )
    if message.content is None and message.role in ("system", "developer", "user", "tool"):
        raise InvalidRequest(f"'{where}.content' is required for role '{message.role}'.", param=f"{where}.content")
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidRequest(f"'{where}.tool_call_id' is required for role 'tool'.", param=f"{where}.tool_call_id")


ContentKind = Literal["text", "image", "audio", "file"]
_KINDS: dict[str, ContentKind] = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "file": "file",
    "input_file": "file",
}


def content_kinds(envelope: ChatEnvelope) -> frozenset[ContentKind]:
    """Which kinds of input the messages carry; always includes text."""
    kinds: set[ContentKind] = {"text"}
    for message in envelope.messages:
        if isinstance(message.content, list):
            kinds.update(_KINDS[part.type] for part in message.content if part.type in _KINDS)
    return frozenset(kinds)


def media_parts(envelope: ChatEnvelope) -> int:
    """How many pictures, sounds and files the messages hold."""
    lists = (message.content for message in envelope.messages if isinstance(message.content, list))
    return sum(part.type in _KINDS for parts in lists for part in parts)


def text_of(message: Message) -> str:
    """The text of a message, parts joined by newlines."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content or () if part.text)
