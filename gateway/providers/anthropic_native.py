"""What is sent to Anthropic of a request in its own dialect, and what its error events mean. Opens no connection."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from gateway.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers.refusal import error_detail
from gateway.wire.chat_request import ChatRequest, Original
from gateway.wire.chat_to_messages import messages_of
from gateway.wire.sse import payload_of

VERSION = "2023-06-01"

# Betas of the Messages API that a client may ask for. Those of other APIs, and those that let the upstream reach
# further than the request (connectors, files of the operator's account), are not passed on.
BETAS = frozenset(
    {
        *("computer-use-2024-10-22", "computer-use-2025-01-24", "computer-use-2025-11-24"),
        *("prompt-caching-2024-07-31", "extended-cache-ttl-2025-04-11", "cache-diagnosis-2026-04-07"),
        *("pdfs-2024-09-25", "token-counting-2024-11-01", "token-efficient-tools-2025-02-19"),
        *("output-128k-2025-02-19", "context-1m-2025-08-07", "context-management-2025-06-27"),
        *("interleaved-thinking-2025-05-14", "dev-full-thinking-2025-05-14", "thinking-token-count-2026-05-13"),
        *("thinking-display-updates-2026-08-18", "thinking-binding-controls-2026-08-01"),
        *("fine-grained-tool-streaming-2025-05-14", "model-context-window-exceeded-2025-08-26"),
        *("code-execution-2025-05-22", "advisor-tool-2026-03-01", "inline-tools-2026-09-15"),
        *("fast-mode-2026-02-01", "task-budgets-2026-03-13", "structured-outputs-2025-11-13"),
        *("compact-2026-01-12", "compact-2026-09-04", "mid-conversation-tool-changes-2026-07-01"),
        *("mid-conversation-output-config-2026-07-01", "mid-conversation-system-clear-at-2026-08-21"),
    }
)
_END = re.compile(rb'"type"\s*:\s*"message_stop"')
_UNSIGNED = re.compile(rb'"signature"\s*:\s*""')
_LEAST_THINKING = 1024
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def native_headers(request: ChatRequest) -> dict[str, str]:
    """Trace context, and the betas that the client asks for and may have."""
    headers = dict(request.upstream_headers)
    asked = dict(request.original.headers).get("anthropic-beta", "") if request.original else ""
    allowed = [one for one in (name.strip() for name in asked.split(",")) if one in BETAS]
    if allowed:
        headers["anthropic-beta"] = ",".join(dict.fromkeys(allowed))
    return headers


def native_body(original: Original, wire_model: str, cap_tokens: int | None) -> bytes:
    """The client's own fields byte for byte, but for the model's wire name, a lower bound on output where a budget
    sets one, and thoughts without a signature, which came from another model and would be refused."""
    fields = _fields(original, wire_model)
    if cap_tokens is not None:
        _cap(fields, cap_tokens)
    return msgspec.json.encode(fields)


def count_body(request: ChatRequest, wire_model: str) -> bytes:
    """The body for counting: of a request in this dialect its own fields, else what it becomes."""
    if request.original is not None and request.original.dialect == "messages":
        fields: dict[str, Any] = _fields(request.original, wire_model)
        fields.pop("max_tokens", None)
        return msgspec.json.encode(fields)
    words = messages_of(request, wire_model, 1)
    counted = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
    return msgspec.json.encode({name: words[name] for name in counted if name in words})


def _fields(original: Original, wire_model: str) -> dict[str, Raw]:
    fields = {name: raw for name, raw in original.fields.items() if name != "models"}
    fields["model"] = _raw(wire_model)
    if _UNSIGNED.search(fields["messages"]):
        fields["messages"] = _raw(_signed(msgspec.json.decode(fields["messages"])))
    return fields


def _cap(fields: dict[str, Raw], cap_tokens: int) -> None:
    bound = min(cap_tokens, msgspec.json.decode(fields["max_tokens"], type=int))
    fields["max_tokens"] = _raw(bound)
    thinking = msgspec.json.decode(fields.get("thinking", b"null"))
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(budget, int) and budget >= bound:
        # Anthropic wants a budget of thinking below the bound, and not too small a one.
        smaller = {**thinking, "budget_tokens": bound - 1}
        fields["thinking"] = _raw(smaller if bound > _LEAST_THINKING else {"type": "disabled"})


def _signed(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = []
    for turn in turns:
        content = turn["content"]
        if isinstance(content, list):
            content = [one for one in content if one.get("type") != "thinking" or one.get("signature")]
        if content:
            kept.append({**turn, "content": content})
    return kept


def is_end(event: bytes) -> bool:
    """Whether an event is the last one."""
    return b"message_stop" in event and _END.search(payload_of(event)) is not None


def failure(event: bytes, secret: str | None) -> UpstreamError | None:
    """The error that an event of type `error` stands for; None for any other."""
    if b"error" not in event:
        return None
    payload = payload_of(event)
    try:
        found = msgspec.json.decode(payload)
    except _UNREADABLE:
        return None
    # Proxies before this API report their own failures in OpenAI's dress, which has no type.
    if not isinstance(found, dict) or found.get("type", "error" if found.get("error") else None) != "error":
        return None
    detail = error_detail(payload, secret)
    message, kind = detail["message"] or "The upstream failed.", detail["type"]
    if kind in ("authentication_error", "permission_error", "billing_error"):
        return UpstreamAuth("The upstream refused the gateway's own credential; the operator must look at it.")
    return _FAILURES.get(kind or "", UpstreamError)(message)


_FAILURES: dict[str, type[UpstreamError]] = {
    "overloaded_error": UpstreamUnavailable,
    "rate_limit_error": UpstreamLimited,
    "timeout_error": UpstreamTimeout,
}


def _raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
