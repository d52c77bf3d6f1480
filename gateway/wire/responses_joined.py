"""OpenAI's responses as chat answers that lose nothing; None where something would be.

A stream's last event holds the whole response. What the vendor's own tools did, sources, sealed reasoning and several
messages are nothing that chat has a word for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.wire.responses_reply import CHAT_USAGE

Words = dict[str, Any]

_FINISHES = {"max_output_tokens": "length", "content_filter": "content_filter"}
_TERMINAL = frozenset({"response.completed", "response.incomplete"})
# What an item or a part may say, in the order in which chat keeps items. All else must be empty.
_ITEMS = {
    "reasoning": (0, frozenset({"type", "id", "status", "summary", "content"})),
    "message": (1, frozenset({"type", "id", "status", "role", "content"})),
    "function_call": (2, frozenset({"type", "id", "status", "call_id", "name", "arguments"})),
}
_PARTS = {
    "output_text": (0, frozenset({"type", "text", "logprobs"})),
    "refusal": (1, frozenset({"type", "refusal"})),
}
_THOUGHTS = {"summary": "summary_text", "content": "reasoning_text"}
# Of a response: what belongs to the vendor's account, or is judged of its text.
_BESIDE = ("error", "conversation", "moderation")
_COUNTS = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "total_tokens": "total_tokens"}
_DETAILS = {"input_tokens_details": "prompt_tokens_details", "output_tokens_details": "completion_tokens_details"}


def response_of_event(last: object) -> object:
    """The response in a stream's last event, decoded; None where the stream did not end well."""
    return last.get("response") if isinstance(last, dict) and last.get("type") in _TERMINAL else None


def chat_of_response(response: object) -> Words | None:
    """A whole response, decoded, as a chat completion that says all of it."""
    try:
        return _chat_of(response) if isinstance(response, dict) and response.get("object") == "response" else None
    except (KeyError, TypeError, AttributeError, ValueError):
        return None  # no response after all


def _chat_of(response: Words) -> Words | None:
    items = [item for item in response["output"] if not _is_silent(item)]
    ending = _finish(response)
    if ending is None or response.get("background") or any(response.get(name) is not None for name in _BESIDE):
        return None
    said = [item["type"] for item in items if item["type"] != "function_call"]
    if not _in_order(items, _ITEMS) or len(said) != len(set(said)):
        return None
    message: Words = {"role": "assistant", "content": None}
    choice: Words = {"index": 0, "message": message, "finish_reason": ending}
    for item in items:
        if item["type"] == "reasoning":
            message["reasoning_content"] = _thought(item)
        elif item["type"] == "message":
            _say(item, message, choice)
        else:
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(call)
    if ending == "stop" and "tool_calls" in message:
        choice["finish_reason"] = "tool_calls"
    found = {
        "id": response["id"],
        "object": "chat.completion",
        "created": int(response.get("created_at") or 0),
        "model": response["model"],
        "choices": [choice],
    }
    more = {name: response.get(name) for name in ("service_tier", "fingerpost")}
    more["usage"] = _usage(response.get("usage"))
    return found | {name: value for name, value in more.items() if value is not None}


def _finish(response: Words) -> str | None:
    if response["status"] == "completed":
        return "stop"
    return _FINISHES.get(response["incomplete_details"]["reason"]) if response["status"] == "incomplete" else None


def _is_silent(item: Words) -> bool:
    """Reasoning that is not shown."""
    said = {name for name, value in item.items() if value not in (None, [])}
    return item["type"] == "reasoning" and said <= {"type", "id", "status"}


def _in_order(given: list[Words], known: Mapping[str, tuple[int, frozenset[str]]]) -> bool:
    """Whether all are of a kind that is known, say nothing beyond that, and stand as chat would put them."""
    for one in given:
        names = known[one["type"]][1]
        if any(value not in (None, []) for name, value in one.items() if name not in names):
            return False
    places = [known[one["type"]][0] for one in given]
    return places == sorted(places)


def _thought(item: Words) -> str:
    """Its one part's text, as summary or as it was thought; `ValueError` for more."""
    parts = [(part, kind) for name, kind in _THOUGHTS.items() for part in item.get(name) or ()]
    ((part, kind),) = parts
    if set(part) != {"type", "text"} or part["type"] != kind:
        raise ValueError(kind)
    return _text(part["text"])


def _say(item: Words, message: Words, choice: Words) -> None:
    """One text and one refusal at most; `ValueError` for other parts."""
    parts = item["content"]
    kinds = [part["type"] for part in parts]
    if item.get("role") != "assistant" or not _in_order(parts, _PARTS) or len(kinds) != len(set(kinds)):
        raise ValueError(kinds)
    for part in parts:
        if part["type"] == "refusal":
            message["refusal"] = _text(part["refusal"])
        else:
            message["content"] = _text(part["text"])
            if part.get("logprobs"):
                choice["logprobs"] = {"content": part["logprobs"], "refusal": None}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _usage(told: Words | None) -> Words | None:
    """Chat's words for a usage; what else it says stays."""
    if told is None:
        return None
    names = {**_COUNTS, **_DETAILS}
    clear = {name: value for name, value in told.items() if name not in CHAT_USAGE or name in names}
    return {names.get(name, name): value for name, value in clear.items()}
