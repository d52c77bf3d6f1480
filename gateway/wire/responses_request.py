"""`POST /v1/responses`, read as a chat request; the conversation behind `previous_response_id` is handed in.

What only an endpoint of this form can be told goes into `native_only`; what would reach into the vendor's account
past the gateway (conversations, background jobs) is refused outright, since callers share that account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import InvalidRequest, UnsupportedCapability
from gateway.wire.chat_request import ChatRequest, ModelName, Original, Positive, Unit, parse_chat
from gateway.wire.json_body import decode_fields, decode_typed
from gateway.wire.responses_items import OWN_MARK, Item, MessageReader, as_items, for_native
from gateway.wire.responses_tools import chat_tool_choice, chat_tools

MAX_ITEMS = 4096
_NEEDS_NATIVE = ("prompt", "context_management", "max_tool_calls", "moderation", "access_programs", "image")
_REFUSED = ("conversation", "background", "background_options")
_LOGPROBS = "message.output_text.logprobs"
# Written anew for a chat, answered by the gateway itself, or refused above; all other fields travel on by their name.
_TRANSLATED = frozenset(
    {
        "input",
        "instructions",
        "max_output_tokens",
        "text",
        "reasoning",
        "tools",
        "tool_choice",
        "include",
        "top_logprobs",
        "truncation",
        "metadata",
        "store",
        "previous_response_id",
        "stream_options",
        *_NEEDS_NATIVE,
        *_REFUSED,
    }
)


class ResponsesText(Struct):
    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesReasoning(Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class ResponsesEnvelope(Struct):
    """The fields the gateway validates; bounds are OpenAI's."""

    model: ModelName
    input: str | Annotated[list[dict[str, Any]], Meta(max_length=MAX_ITEMS)] = ""
    instructions: str | None = None
    previous_response_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    max_output_tokens: Positive | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Unit | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stream: bool | None = None
    store: bool | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=1024)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ResponsesReasoning | None = None
    text: ResponsesText | None = None
    truncation: str | None = None
    include: list[str] | None = None
    user: str | None = None
    background: bool | None = None
    conversation: Any = None
    background_options: Any = None
    prompt: Any = None
    context_management: Any = None
    max_tool_calls: Any = None
    moderation: Any = None
    access_programs: Any = None
    image: Any = None


class _Link(Struct):
    previous_response_id: str | None = None


_ENVELOPE = msgspec.json.Decoder(ResponsesEnvelope)
_LINK = msgspec.json.Decoder(_Link)


def previous_id_of(body: bytes) -> str | None:
    """Which stored response a request goes on from."""
    return decode_typed(_LINK, body).previous_response_id


def parse_responses(body: bytes, history: Sequence[Item] = ()) -> ChatRequest:
    """Validate a body; `history` are the items that came before it, oldest first. `InvalidRequest` names the field."""
    envelope = decode_typed(_ENVELOPE, body)
    fields = decode_fields(body)
    for name in _REFUSED:
        if getattr(envelope, name) not in (None, False):
            raise UnsupportedCapability(
                f"'{name}' is not offered here; use 'previous_response_id' and 'stream'.", param=name
            )
    items = _resolved(as_items(envelope.input) if "input" in fields else [], history)
    if not (items or history or envelope.prompt is not None):
        raise InvalidRequest("'input' must not be empty.", param="input")
    reader = MessageReader()
    if envelope.instructions:
        reader.messages.append({"role": "system", "content": envelope.instructions})
    for position, item in enumerate([*history, *items]):
        here = position - len(history)
        reader.read(item, f"input[{here}]" if here >= 0 else f"previous_response_id: item {position}")
    chat, reason = _chat_fields(envelope, fields)
    # Where all there is waits for its own endpoint, the chat form stands in for it, in estimates and in the log.
    chat["messages"] = Raw(msgspec.json.encode(reader.messages or [{"role": "user", "content": ""}]))
    request = parse_chat(msgspec.json.encode(chat))
    if history or OWN_MARK.encode() in bytes(fields.get("input", b"")):
        fields["input"] = Raw(msgspec.json.encode(for_native([*history, *items])))
    original = Original("responses", fields)
    return ChatRequest(request.envelope, request.fields, original, native_only=reader.native_only or reason)


def _resolved(items: list[Item], history: Sequence[Item]) -> list[Item]:
    """References to items of the stored conversation, which is sent along anyway, fall away."""
    known = {item["id"] for item in history if "id" in item}
    return [item for item in items if item.get("type") != "item_reference" or item.get("id") not in known]


def _chat_fields(envelope: ResponsesEnvelope, fields: Mapping[str, Raw]) -> tuple[dict[str, Any], str | None]:
    """The request's other fields as a chat request has them, and why no chat will do."""
    chat: dict[str, Any] = {name: raw for name, raw in fields.items() if name not in _TRANSLATED}
    if envelope.stream:
        chat["stream_options"] = {"include_usage": True}
    if envelope.max_output_tokens is not None:
        chat["max_tokens"] = envelope.max_output_tokens
    if envelope.reasoning is not None and envelope.reasoning.effort is not None:
        chat["reasoning_effort"] = envelope.reasoning.effort
    if envelope.text is not None:
        chat |= _text_fields(envelope.text)
    if _LOGPROBS in (envelope.include or ()) or envelope.top_logprobs:
        chat |= {"logprobs": True, "top_logprobs": envelope.top_logprobs or 0}
    tools, beyond_tools = chat_tools(envelope.tools or ())
    if tools:
        chat["tools"] = tools
    choice, beyond_choice = chat_tool_choice(envelope.tool_choice)
    if choice is not None:
        chat["tool_choice"] = choice
    return chat, _beyond(envelope) or beyond_tools or beyond_choice


def _text_fields(text: ResponsesText) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if text.verbosity is not None:
        found["verbosity"] = text.verbosity
    if text.format is None or text.format.get("type") == "text":
        return found
    kind = text.format.get("type")
    if kind == "json_object":
        return found | {"response_format": {"type": "json_object"}}
    if kind != "json_schema" or not isinstance(text.format.get("schema"), dict):
        raise InvalidRequest(
            "'text.format' must be of type text, json_object, or json_schema with a 'schema'.", param="text.format"
        )
    schema = {name: value for name, value in text.format.items() if name != "type"}
    return found | {"response_format": {"type": "json_schema", "json_schema": schema}}


def _beyond(envelope: ResponsesEnvelope) -> str | None:
    """The first field that says something no chat can be told."""
    said = {name: getattr(envelope, name) is not None for name in _NEEDS_NATIVE}
    said["truncation"] = envelope.truncation not in (None, "disabled")
    thinking = envelope.reasoning or ResponsesReasoning()
    said["reasoning.context"] = thinking.context not in (None, "auto")
    said["reasoning.mode"] = thinking.mode not in (None, "standard")
    name = next((name for name, wanted in said.items() if wanted), None)
    return name and f"'{name}' needs an endpoint that takes responses as they are."
