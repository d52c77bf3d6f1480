"""Answers of the chat dialect as Anthropic's messages: the words both forms share, and a whole answer at once."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from gateway.errors import UpstreamBroken
from gateway.wire.chat_reply import ChatReply, Choice, Said, ToolCall, read_reply

Words = dict[str, Any]

_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use", "content_filter": "refusal"}


class Asked:
    """What of a request decides how its answer looks: its stop sequences, and whether it wants to see thoughts."""

    __slots__ = ("model", "stops", "thoughts")

    def __init__(self, model: str, stops: tuple[str, ...], thoughts: bool) -> None:
        self.model = model
        self.stops = stops
        self.thoughts = thoughts


def message_of(body: bytes, asked: Asked, request_id: str) -> bytes:
    """A whole chat answer as a message; `UpstreamBroken` where it is none."""
    reply = read_reply(body)
    choice = (reply.choices or [Choice()])[0]
    content = _content(choice, asked)
    message = (
        opening(reply, asked, request_id) | {"content": content} | ending(choice, asked, bool(choice.said.tool_calls))
    )
    message["usage"] = usage_of(reply.usage)
    return msgspec.json.encode(message | note_of(reply))


def opening(reply: ChatReply, asked: Asked, request_id: str) -> Words:
    """What a message begins with; its id is the upstream's own where that is one of Anthropic's."""
    given = reply.id or ""
    return {
        "id": given if given.startswith("msg_") else f"msg_{request_id.removeprefix('req_')}",
        "type": "message",
        "role": "assistant",
        "model": reply.model or asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def ending(choice: Choice, asked: Asked, called: bool) -> Words:
    """Why it ended; `called` says whether it calls tools, which some vendors finish with "stop"."""
    finish = choice.finish_reason or "stop"
    met = next((one for one in (choice.stop_reason, choice.matched_stop) if one in asked.stops), None)
    if choice.said.refusal and finish == "stop":
        return {"stop_reason": "refusal", "stop_sequence": None}
    if finish == "stop" and met is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": met}
    reason = "tool_use" if called and finish == "stop" else _STOPS.get(finish, "end_turn")
    return {"stop_reason": reason, "stop_sequence": None}


def usage_of(usage: dict[str, Any] | None) -> Words:
    """Chat's usage in Anthropic's counting: `input_tokens` is what was neither read from a cache nor written to one."""
    given = usage or {}
    prompt = given.get("prompt_tokens_details") or {}
    output = given.get("completion_tokens_details") or {}
    cached, written = count(prompt.get("cached_tokens")), count(prompt.get("cache_write_tokens"))
    words: Words = {
        "input_tokens": max(count(given.get("prompt_tokens")) - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": count(given.get("completion_tokens")),
    }
    if hour := count(prompt.get("cache_write_long_tokens")):
        split = {"ephemeral_5m_input_tokens": max(written - hour, 0), "ephemeral_1h_input_tokens": hour}
        words["cache_creation"] = split
    if thinking := count(output.get("reasoning_tokens")):
        words["output_tokens_details"] = {"thinking_tokens": thinking}
    return words | {name: given[name] for name in ("cost", "upstream_cost", "estimated", "cached") if name in given}


def note_of(reply: ChatReply) -> Words:
    """The gateway's own remarks, such as that a budget ended the answer."""
    return {} if reply.fingerpost is None else {"fingerpost": reply.fingerpost}


def count(value: object) -> int:
    """A number of tokens; 0 for whatever is none."""
    return value if isinstance(value, int) and value > 0 else 0


def tool_id(call: ToolCall) -> str:
    """The id of a call, or one of our own where the vendor gives none."""
    return call.id or f"toolu_{os.urandom(12).hex()}"


def thoughts_of(said: Said) -> list[Words]:
    """Signed thinking blocks that came with a message or a delta."""
    blocks = said.thinking_blocks
    return [one for one in blocks if isinstance(one, dict)] if isinstance(blocks, list) else []


def _content(choice: Choice, asked: Asked) -> list[Words]:
    said = choice.said
    blocks: list[Words] = []
    if asked.thoughts:
        blocks += [{name: value for name, value in one.items() if name != "index"} for one in thoughts_of(said)]
        if not blocks and said.thought:
            blocks.append({"type": "thinking", "thinking": said.thought, "signature": ""})
    if text := said.text or said.refusal:
        blocks.append({"type": "text", "text": text})
    cut = choice.finish_reason == "length"
    return blocks + [_tool_use(call, cut) for call in said.tool_calls or ()]


def _tool_use(call: ToolCall, cut: bool) -> Words:
    function = call.function
    try:
        parsed = msgspec.json.decode((function and function.arguments) or "{}")
    except (msgspec.DecodeError, RecursionError):
        parsed = {} if cut else None
    if not isinstance(parsed, dict):
        raise UpstreamBroken("The upstream called a tool with arguments that are not a JSON object.")
    return {"type": "tool_use", "id": tool_id(call), "name": (function and function.name) or "", "input": parsed}
