"""Chat answers as OpenAI's response objects: what all its forms, streamed or whole, have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import time
from typing import Any

import msgspec

from gateway.errors import GatewayError
from gateway.wire.chat_reply import ChatReply, Choice, Said, ToolCall, read_reply
from gateway.wire.chat_request import ChatRequest
from gateway.wire.responses_items import OWN_MARK, Item, sealed

# What a response repeats of its request, and what it says where the request is silent.
_REPEATED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
_CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}


class _Wish(msgspec.Struct):
    summary: str | None = None
    generate_summary: str | None = None


def new_id(kind: str) -> str:
    """An id that no vendor gives, nor anybody guesses."""
    return f"{kind}{OWN_MARK}{os.urandom(18).hex()}"


class Head:
    """What stays the same in every form of one response."""

    def __init__(self, request: ChatRequest) -> None:
        fields = request.original.fields if request.original is not None else {}
        given = {name: fields[name] for name in _REPEATED if bytes(fields.get(name, b"null")) != b"null"}
        self._repeated = _REPEATED | given
        self.id = new_id("resp")
        self.created_at = int(time())
        self.model = request.envelope.model
        self.usage: dict[str, Any] | None = None
        self.notes: dict[str, Any] | None = None

    @property
    def wants_summary(self) -> bool:
        """Whether reasoning is shown as a summary, as asked for, rather than as the reasoning's own text."""
        wish = msgspec.json.decode(msgspec.json.encode(self._repeated["reasoning"]), type=_Wish)
        return bool(wish.summary or wish.generate_summary)

    def note(self, reply: ChatReply) -> None:
        """Keep what an answer, or a chunk of it, says about itself."""
        self.model = reply.model or self.model
        if reply.usage is not None:
            self.usage = reply.usage
        if reply.service_tier is not None:
            self._repeated["service_tier"] = reply.service_tier
        if reply.fingerpost is not None:
            self.notes = reply.fingerpost

    def response(self, status: str, output: Sequence[Item], cause: str | None = None) -> dict[str, Any]:
        """The response object; `cause` says why it is incomplete."""
        found: dict[str, Any] = {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": cause} if cause else None,
            "model": self.model,
            "output": list(output),
            **self._repeated,
            "usage": None,
        }
        if status in ("completed", "incomplete"):
            found["completed_at"] = int(time())
            found["usage"] = response_usage(self.usage)
        if self.notes is not None:
            found["fingerpost"] = self.notes
        return found

    def ended(self, output: Sequence[Item], finish_reason: str | None) -> dict[str, Any]:
        """The response object of an answer that has ended."""
        cause = _CUT_SHORT.get(finish_reason or "")
        return self.response("incomplete" if cause else "completed", output, cause)

    def failed(self, output: Sequence[Item], error: GatewayError) -> dict[str, Any]:
        """The response object of an answer that broke."""
        found = self.response("failed", output)
        code = "rate_limit_exceeded" if error.http_status == 429 else "server_error"
        return found | {"error": {"code": code, "message": error.message}}


def item_status(finish_reason: str | None) -> str:
    """The status of an item that was open when the answer ended so."""
    return "incomplete" if finish_reason in _CUT_SHORT else "completed"


def response_usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """Chat's usage in the words of responses, with everything else that it says."""
    if usage is None:
        return None
    prompt, output = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    inputs, outputs = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    known = {
        "input_tokens": inputs,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0} | _numbers(prompt),
        "output_tokens": outputs,
        "output_tokens_details": {"reasoning_tokens": 0} | _numbers(output),
        "total_tokens": usage.get("total_tokens") or inputs + outputs,
    }
    rest = {name: value for name, value in usage.items() if name not in CHAT_USAGE}
    return known | rest


# What chat's usage says in other words than that of responses.
CHAT_USAGE = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
)


def _numbers(details: object) -> dict[str, Any]:
    if not isinstance(details, dict):
        return {}
    return {name: value for name, value in details.items() if value is not None}


def blocks_of(given: Any) -> list[dict[str, Any]]:
    """Signed reasoning as its vendor sends it; none where it can't be read."""
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def reasoning_item(text: str, blocks: Sequence[dict[str, Any]], summary: bool, status: str = "completed") -> Item:
    """Reasoning as an item; `blocks` are what its vendor wants back."""
    item: Item = {"id": new_id("rs"), "type": "reasoning", "summary": [], "status": status}
    if text and summary:
        item["summary"] = [{"type": "summary_text", "text": text}]
    elif text:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    if blocks:
        item["encrypted_content"] = sealed(msgspec.json.encode(blocks))
    return item


def text_part(text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    """A part of a message's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def refusal_part(text: str) -> dict[str, Any]:
    """Likewise, where the model refuses."""
    return {"type": "refusal", "refusal": text}


def message_item(parts: Sequence[dict[str, Any]], said: Said, status: str) -> Item:
    """What the model says as an item."""
    item: Item = {"id": new_id("msg"), "type": "message", "role": "assistant", "status": status}
    item["content"] = list(parts)
    return item if said.extra_content is None else item | {"extra_content": said.extra_content}


def call_item(call: ToolCall, status: str = "completed") -> Item:
    """A function call as an item; a call without an id is given one."""
    function = call.function
    item: Item = {
        "id": new_id("fc"),
        "type": "function_call",
        "status": status,
        "call_id": call.id or new_id("call"),
        "name": (function.name if function else None) or "",
        "arguments": (function.arguments if function else None) or "",
    }
    return item if call.extra_content is None else item | {"extra_content": call.extra_content}


def output_of(choice: Choice, summary: bool) -> list[Item]:
    """The items of a whole answer, in the order in which a stream shows them."""
    said, status = choice.said, item_status(choice.finish_reason)
    items = []
    blocks = blocks_of(said.thinking_blocks)
    if said.thought or blocks:
        items.append(reasoning_item(said.thought, blocks, summary))
    parts = []
    if said.text:
        parts.append(text_part(said.text, logprobs_of(choice)))
    if said.refusal:
        parts.append(refusal_part(said.refusal))
    calls = said.tool_calls or ()
    if parts or said.extra_content is not None:
        items.append(message_item(parts, said, status))
    return items + [call_item(call, status) for call in calls]


def logprobs_of(choice: Choice) -> list[Any]:
    """Log probabilities of the text's tokens."""
    found = (choice.logprobs or {}).get("content")
    return found if isinstance(found, list) else []


def whole_response(head: Head, body: bytes) -> dict[str, Any]:
    """The response object of a whole chat answer; `UpstreamBroken` where it is none."""
    reply = read_reply(body)
    head.note(reply)
    choice = next(iter(reply.choices or ()), Choice())
    return head.ended(output_of(choice, head.wants_summary), choice.finish_reason)
