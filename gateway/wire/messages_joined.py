"""Anthropic's messages as chat answers that lose nothing: a stream is joined first. None where something would be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.errors import UpstreamBroken
from gateway.wire.messages_reader import completion_of

Words = dict[str, Any]

# What may be in a block that chat has a word for, in the order in which chat keeps blocks.
_BLOCKS = {
    "thinking": (0, {"type", "thinking", "signature"}),
    "redacted_thinking": (0, {"type", "data"}),
    "text": (1, {"type", "text", "citations"}),
    "tool_use": (2, {"type", "id", "name", "input", "caller"}),
}
_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_ENDS = {"end_turn", "tool_use", "stop_sequence", "max_tokens"}
_KNOWN = {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}
_DIRECT = (None, {"type": "direct"})


def joined_message(events: Iterable[Any]) -> Words | None:
    """The message of a whole stream's events, decoded."""
    message: Words = {}
    blocks: list[Words] = []
    parts: list[str] = []  # of the open block's arguments
    kind = None
    try:
        for found in events:
            kind = found["type"]
            if kind == "message_start":
                message = {**found["message"]}
            elif kind == "content_block_start":
                blocks.append({**found["content_block"]})
                parts = []
            elif kind == "content_block_delta":
                _add(blocks[-1], found["delta"], parts)
            elif kind == "content_block_stop":
                if parts:
                    blocks[-1]["input"] = msgspec.json.decode("".join(parts))
            elif kind == "message_delta":
                message |= {name: value for name, value in found.items() if name not in ("type", "delta", "usage")}
                message |= found["delta"]
                message["usage"] = {**message.get("usage", {}), **_told(found.get("usage"))}
            elif kind not in ("message_stop", "ping"):
                return None
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError):
        return None  # no event of this dialect, or arguments that are no JSON
    return {**message, "content": blocks} if kind == "message_stop" else None


def _add(block: Words, delta: Words, parts: list[str]) -> None:
    kind = delta["type"]
    if kind == "input_json_delta":
        parts.append(delta["partial_json"])
    elif set(delta) == {"type", _PIECES[kind]}:  # a kind that is not known ends here too
        name = _PIECES[kind]
        block[name] = block.get(name, "") + delta[name]
    else:
        raise ValueError(kind)


def _told(usage: Words | None) -> Words:
    return {name: value for name, value in (usage or {}).items() if value is not None}


def chat_of_message(message: object) -> bytes | None:
    """A whole message, decoded, as a chat completion that says all of it."""
    if not isinstance(message, dict) or message.get("type") != "message" or message.get("stop_reason") not in _ENDS:
        return None
    if any(value is not None for name, value in message.items() if name not in _KNOWN):
        return None
    content = message.get("content")
    if not isinstance(content, list) or not _is_chat(content):
        return None
    try:
        return completion_of(msgspec.json.encode(message))
    except (UpstreamBroken, ValueError, TypeError, RecursionError):
        return None


def _is_chat(blocks: list[Any]) -> bool:
    """Thoughts, then one text at most, then calls: chat would forget any other order."""
    places = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        place, names = _BLOCKS.get(kind, (0, set())) if isinstance(kind, str) else (0, set())
        if not names or not names.issuperset(block) or block.get("citations") or block.get("caller") not in _DIRECT:
            return False
        places.append(place)
    return places == sorted(places) and places.count(1) <= 1
