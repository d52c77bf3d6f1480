"""Takes off a chat request what only some endpoints understand, for vendors that refuse fields they do not know.

Applied to requests that came in another dialect: what a chat client sends itself is forwarded as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, structs

from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_vendors import GOOGLE, NEWER_BOUND

Chat = dict[str, Any]

_EXTENSIONS = ("cache_control", "thinking")
_MESSAGE_EXTENSIONS = ("cache_control", "thinking_blocks", "reasoning_content", "extra_content", "is_error")
_TOOL_EXTENSIONS = ("cache_control", "eager_input_streaming")
# Who wants back what came with its answers: DeepSeek the reasoning before its calls, Google its signatures.
_WANTED_BACK = (("://api.deepseek.com", "reasoning_content"), (GOOGLE, "extra_content"))
# Which effort a budget of thinking tokens stands for.
_EFFORTS = ((2048, "low"), (8192, "medium"))


def plain(request: ChatRequest, base_url: str | None = None) -> ChatRequest:
    """The same request in words of OpenAI's own chat API; what is taken off changes no answer, or is said otherwise:
    a failed tool result begins with "Error:", a budget of thinking becomes an effort, images of tool results follow
    as a user's message."""
    envelope = request.envelope
    fields = {name: raw for name, raw in request.fields.items() if name not in _EXTENSIONS}
    messages = msgspec.json.decode(fields["messages"], type=list[Chat])
    wanted = [name for host, name in _WANTED_BACK if host in (base_url or "")]
    dropped = tuple(name for name in _MESSAGE_EXTENSIONS if name not in wanted)
    fields["messages"] = _raw(list(_messages(messages, dropped)))
    if "tools" in fields:
        tools = msgspec.json.decode(fields["tools"], type=list[Chat])
        fields["tools"] = _raw([_without(tool, _TOOL_EXTENSIONS) for tool in tools])
    effort = _effort(request.fields.get("thinking"))
    if effort is not None and "reasoning_effort" not in fields:
        fields["reasoning_effort"] = _raw(effort)
    if "max_tokens" in fields and any(host in (base_url or "") for host in NEWER_BOUND):
        fields["max_completion_tokens"] = fields.pop("max_tokens")
        envelope = structs.replace(envelope, max_tokens=None, max_completion_tokens=envelope.max_tokens)
    return replace(request, envelope=envelope, fields=fields)


def _effort(thinking: Raw | None) -> str | None:
    budget = None if thinking is None else msgspec.json.decode(thinking, type=Chat).get("budget_tokens")
    if not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")


def _messages(messages: list[Chat], dropped: tuple[str, ...]) -> Iterator[Chat]:
    """Messages without extensions; images of tool results wait for the end of the run of results."""
    waiting: list[Chat] = []
    for message in messages:
        if waiting and message["role"] != "tool":
            yield {"role": "user", "content": waiting}
            waiting = []
        said = _without(message, dropped)
        content = said.get("content")
        if isinstance(content, list):
            content = [_without(part, ("cache_control",)) for part in content]
        if message["role"] == "tool":
            content, shown = _split(content)
            waiting += shown
            if message.get("is_error"):
                content = _as_error(content)
        said["content"] = _joined(content, message["role"])
        if said.get("tool_calls"):
            said["tool_calls"] = [_without(call, dropped) for call in said["tool_calls"]]
        yield said
    if waiting:
        yield {"role": "user", "content": waiting}


def _split(content: Any) -> tuple[Any, list[Chat]]:
    """A tool's result as text, which is all that chat lets it be, and what it shows beside."""
    if not isinstance(content, list):
        return content, []
    texts = [part for part in content if part["type"] == "text"]
    shown = [part for part in content if part["type"] != "text"]
    return texts or ("The result follows as a file." if shown else ""), shown


def _as_error(content: Any) -> Any:
    if isinstance(content, list):
        return [{"type": "text", "text": "Error:"}, *content]
    return content if content[:5].lower() == "error" else f"Error: {content}"


def _joined(content: Any, role: str) -> Any:
    """One part, or an answer in pieces, is a plain text: many servers take lists from users only."""
    if not isinstance(content, list) or not content or any(part["type"] != "text" for part in content):
        return content
    if len(content) == 1 or role == "assistant":
        return "".join(part["text"] for part in content)
    return content


def _without(fields: Chat, names: tuple[str, ...]) -> Chat:
    return {name: value for name, value in fields.items() if name not in names}


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))
