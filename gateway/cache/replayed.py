"""A kept answer, given again: whole or as the events of a stream. It costs nothing and says that it is a kept one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from gateway.wire.sse import DONE, ends, event, payload_of

Words = dict[str, Any]

# About sixteen tokens, to the end of a word and of the space behind it.
_PIECE = re.compile(r".{1,56}\S{0,16}\s?", re.DOTALL)
_TOKENS = 16
_EVENTS_A_FRAME = 4
_HEAD = ("id", "created", "model", "service_tier", "system_fingerprint")
_THOUGHTS = ("reasoning_content", "reasoning")
_IN_ORDER = frozenset({"role", "content", "refusal", "tool_calls", "function_call", "thinking_blocks", *_THOUGHTS})
# What the first time cost.
_COSTS = ("upstream_cost", "cost_details")
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


class _Choice(msgspec.Struct):
    message: dict[str, Any]


class _Kept(msgspec.Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    usage: dict[str, Any] | None = None


_KEPT = msgspec.json.Decoder(_Kept)


def readable(stored: bytes) -> bool:
    """Whether it is what was kept once, as far as `body` and `frames` go."""
    try:
        _KEPT.decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def body(stored: bytes) -> bytes:
    """The answer as a whole; of all that it says only its usage changes."""
    fields = _FIELDS.decode(stored)
    return msgspec.json.encode({**fields, "usage": _usage(fields)})


def frames(stored: bytes, wants_usage: bool) -> list[bytes]:
    """The answer as a stream's frames of a few events each: its texts come in pieces."""
    fields = _FIELDS.decode(stored)
    head: Words = {name: fields[name] for name in _HEAD if name in fields}
    head["object"] = "chat.completion.chunk"
    beside = {name: raw for name, raw in fields.items() if name not in {*head, "choices", "usage"}}
    chunks: list[Words] = []
    for place, choice in enumerate(msgspec.json.decode(fields["choices"], type=list[Words])):
        chunks += [{**head, "choices": [said]} for said in _said(choice, choice.get("index", place))]
    if chunks:
        chunks[0] |= beside
    if wants_usage:
        chunks.append({**head, "choices": [], "usage": _usage(fields)})
    events = [event(msgspec.json.encode(chunk)) for chunk in chunks] + [DONE]
    return [b"".join(events[at : at + _EVENTS_A_FRAME]) for at in range(0, len(events), _EVENTS_A_FRAME)]


def along(frame: bytes) -> bytes:
    """A frame of a chat stream that another request asked for, without its usage and its end."""
    if b'"usage"' not in frame and b"[DONE]" not in frame:
        return frame
    return b"".join(map(_without_usage, frame.split(b"\n\n")[:-1]))


def end(frame: bytes, stored: bytes, tokens: tuple[int, int], wants_usage: bool) -> bytes:
    """The end of such a stream, of which this was a frame: `stored` is what it came to, empty where that is not kept;
    `tokens` are those of prompt and answer then."""
    if not wants_usage:
        return DONE
    said = next(filter(None, map(_event_fields, frame.split(b"\n\n"))), {})
    head: Words = {name: said[name] for name in _HEAD if name in said} | {"object": "chat.completion.chunk"}
    if stored:
        usage = _usage(_FIELDS.decode(stored))
    else:
        counts = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
        usage = {**counts, "cost": 0, "cached": True}
    return event(msgspec.json.encode({**head, "choices": [], "usage": usage})) + DONE


def _without_usage(text: bytes) -> bytes:
    fields = _event_fields(text)
    if b"[DONE]" in text and ends(text):
        return b""
    if "usage" not in fields:
        return text + b"\n\n"
    if bytes(fields.get("choices", b"null")).strip() in (b"[]", b"null"):
        return b""
    return event(msgspec.json.encode({name: raw for name, raw in fields.items() if name != "usage"}))


def _event_fields(text: bytes) -> dict[str, Raw]:
    """None of what is not one JSON object."""
    try:
        return _FIELDS.decode(payload_of(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _usage(fields: dict[str, Raw]) -> Words:
    told = msgspec.json.decode(fields["usage"]) if "usage" in fields else None
    usage = {name: value for name, value in told.items() if name not in _COSTS} if isinstance(told, dict) else {}
    return usage | {"cost": 0, "cached": True}


def _said(choice: Words, index: int) -> Iterator[Words]:
    """A choice's chunks: its role, what it says, its end."""
    for delta, logprobs in _deltas(choice["message"], choice.get("logprobs")):
        said: Words = {"index": index, "delta": delta, "finish_reason": None}
        yield said if logprobs is None else said | {"logprobs": logprobs}
    rest = {name: value for name, value in choice.items() if name not in ("index", "message", "logprobs")}
    yield {"index": index, "delta": {}, **rest}


def _deltas(message: Words, logprobs: Words | None) -> Iterator[tuple[Words, Words | None]]:
    """Thoughts, then text, then calls: the order in which every dialect can say them as they come."""
    content, refusal = message.get("content"), message.get("refusal")
    yield {"role": message.get("role") or "assistant", "content": "" if isinstance(content, str) else None}, None
    for thought in _thoughts(message):
        yield thought, None
    if blocks := message.get("thinking_blocks"):
        yield {"thinking_blocks": _numbered(blocks)}, None
    yield from _text("content", content, logprobs)
    yield from _text("refusal", refusal, None if content else logprobs)
    if more := {name: value for name, value in message.items() if name not in _IN_ORDER and value is not None}:
        yield more, None
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {"tool_calls": [{"index": place, **call, "function": {**function, "arguments": ""}}]}, None
        for piece in _PIECE.findall(function["arguments"]):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, None
    if message.get("function_call"):
        yield {"function_call": message["function_call"]}, None


def _thoughts(message: Words) -> Iterator[Words]:
    """Reasoning under one of its names, or the same under both."""
    shown = {name: message[name] for name in _THOUGHTS if message.get(name)}
    first, *others = shown.values() or [""]
    if isinstance(first, str) and all(other == first for other in others):
        for piece in _PIECE.findall(first):
            yield dict.fromkeys(shown, piece)
    elif shown:
        yield shown


def _numbered(blocks: Any) -> Any:
    if not isinstance(blocks, list):
        return blocks
    return [{"index": place, **block} if isinstance(block, dict) else block for place, block in enumerate(blocks)]


def _text(name: str, text: Any, logprobs: Words | None) -> Iterator[tuple[Words, Words | None]]:
    """In pieces; with log-probabilities they are their tokens, where these are what the text consists of."""
    if not text:
        return
    tokens = _tokens(name, logprobs)
    if tokens is not None and "".join(str(token.get("token")) for token in tokens) == text:
        for at in range(0, len(tokens), _TOKENS):
            some = tokens[at : at + _TOKENS]
            yield {name: "".join(token["token"] for token in some)}, {name: some}
    elif logprobs is not None or not isinstance(text, str):
        yield {name: text}, logprobs
    else:
        for piece in _PIECE.findall(text):
            yield {name: piece}, None


def _tokens(name: str, logprobs: Words | None) -> list[Words] | None:
    """The tokens of a text, if nothing else is told of probabilities."""
    told = {kind: value for kind, value in (logprobs or {}).items() if value is not None}
    found = told.get(name)
    if set(told) != {name} or not isinstance(found, list) or not all(isinstance(token, dict) for token in found):
        return None
    return found
