"""Chat requests as clients write them, and what the cache makes of them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.cache.identity import Identity, Scope, Tenant, group_of, identify
from gateway.wire.chat_request import ChatRequest, parse_chat

SCOPE = Scope(Tenant("organisation", "org-1"), group_of("default", ()), key="key-1")
QUESTION = "How do I reset my router to factory settings?"


def body(question: Any = QUESTION, **fields: Any) -> dict[str, Any]:
    """A system prompt, one question, and these fields."""
    messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": question}]
    return {"model": "auto", "messages": messages, **fields}


def request(question: Any = QUESTION, **fields: Any) -> ChatRequest:
    return parse_chat(msgspec.json.encode(body(question, **fields)))


def of(question: Any = QUESTION, scope: Scope = SCOPE, **fields: Any) -> Identity:
    """The identity of such a request."""
    return identify(request(question, **fields), scope)
