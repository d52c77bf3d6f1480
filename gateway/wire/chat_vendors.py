"""What single vendors want of a chat request, whoever wrote it: told apart by the host of the endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_turns_to_gemini import FOREIGN_SIGNATURE, signature_of

# OpenAI's reasoning models refuse the older name of the bound, most other vendors do not know the newer one.
NEWER_BOUND: Final = ("://api.openai.com/", ".openai.azure.com/")
GOOGLE: Final = "://generativelanguage.googleapis.com"


def suited(request: ChatRequest, base_url: str | None) -> ChatRequest:
    """The same request, changed only where that host would refuse it."""
    url = base_url or ""
    fields = request.fields
    bounded = "max_tokens" in fields or "max_completion_tokens" in fields
    if request.cap_tokens is not None and not bounded and any(host in url for host in NEWER_BOUND):
        request = replace(request, fields={**fields, "max_completion_tokens": _raw(request.cap_tokens)})
    if GOOGLE in url and b'"tool_calls"' in bytes(fields["messages"]):
        request = _signed(request)
    return request


def _signed(request: ChatRequest) -> ChatRequest:
    """Google refuses a turn's first call without the signature that came with it; one that another vendor's model
    has made never had any, and Google names a word that stands for that."""
    messages = msgspec.json.decode(request.fields["messages"], type=list[dict[str, Any]])
    unsigned = [calls[0] for message in messages if (calls := message.get("tool_calls")) and not signature_of(calls[0])]
    for call in unsigned:
        call["extra_content"] = {"google": {"thought_signature": FOREIGN_SIGNATURE}}
    return replace(request, fields={**request.fields, "messages": _raw(messages)}) if unsigned else request


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))
