"""What a request of another dialect says beyond its chat form, so that no request is taken for one that says less.

A plain one says nothing more: it is one with the chat request that asks the same.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from gateway.wire.chat_request import ChatRequest

Json = dict[str, Any]

# What changes how an answer travels, is billed, is kept or is traced, never what it says. Which models may answer is
# said by the scope; `cache` is for the gateway itself.
SAYS_NOTHING = frozenset(
    {
        *("model", "stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier"),
        *("cache", "cache_control", "prompt_cache_key", "prompt_cache_retention"),
    }
)
# The conversation behind it stands in the input.
_SAID_IN_INPUT = {"responses": frozenset({"previous_response_id"})}
# Dialects whose chat form says all that the request says, but for `native_only` and the details below.
_SAID_IN_CHAT = frozenset({"messages", "responses"})
# Of a responses request: what its chat form carries of fields that it carries in part.
_CARRIED = {"reasoning": frozenset({"effort"}), "text": frozenset({"format", "verbosity"})}
_LOGPROBS = "message.output_text.logprobs"
_PLAIN_ITEM = frozenset({"type", "role", "content", "id", "status"})
_PLAIN_PART = frozenset({"type", "text", "annotations", "logprobs"})
_PLAIN_TEXTS = frozenset({"input_text", "output_text", "text"})


def beside_chat(request: ChatRequest) -> Json:
    """Empty where the chat form says all."""
    original = request.original
    if original is None:
        return {}
    said: Json = {"headers": sorted(original.headers)} if original.headers else {}
    if request.native_only or original.dialect not in _SAID_IN_CHAT:
        beside = SAYS_NOTHING | _SAID_IN_INPUT.get(original.dialect, frozenset())
        fields = {name: decoded(raw) for name, raw in original.fields.items() if name not in beside}
        return said | {"dialect": original.dialect, "fields": fields}
    return said | _of_responses(original.fields) if original.dialect == "responses" else said


def is_whole_in_chat(request: ChatRequest) -> bool:
    """Whether the last text, as chat has it, is nowhere said again."""
    return request.original is None or (not request.native_only and request.original.dialect in _SAID_IN_CHAT)


def decoded(raw: Raw) -> Any:
    """The value; `Raw`, as its bytes stand, where it has none here (a number beyond all bounds)."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw


def _of_responses(fields: dict[str, Raw]) -> Json:
    """Details of answers, and items of the conversation that are more than text."""
    said: Json = {}
    for name, carried in _CARRIED.items():
        given = decoded(fields[name]) if name in fields else None
        if isinstance(given, dict):
            given = {part: one for part, one in given.items() if part not in carried and one is not None}
        said[name] = given
    included = decoded(fields["include"]) if "include" in fields else None
    said["include"] = sorted({one for one in included or () if one != _LOGPROBS})
    items = decoded(fields["input"]) if "input" in fields else None
    if isinstance(items, list):
        items = [[place, item] for place, item in enumerate(items) if not _is_plain(item)]
    said["items"] = None if isinstance(items, str) else items
    return {name: value for name, value in said.items() if value}


def _is_plain(item: Json) -> bool:
    """Whether it is a message of nothing but text."""
    if item.get("type", "message") != "message" or not item.keys() <= _PLAIN_ITEM:
        return False
    content = item.get("content")
    parts = content if isinstance(content, list) else ()
    return all(part.keys() <= _PLAIN_PART and part.get("type") in _PLAIN_TEXTS for part in parts)
