"""How hard a model shall think, put into a request in the client's dialect and in the chat form alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw

from gateway.wire.chat_request import ChatRequest, Original

# Any of these means that the client has said it, in some vendor's words.
_SAID = ("reasoning_effort", "thinking", "reasoning", "extra_body")
# Where the dialects that endpoints are sent as they come keep it.
_PLACES = {"messages": "output_config", "responses": "reasoning"}


def says_effort(request: ChatRequest) -> bool:
    """Whether the client has said how hard to think."""
    return any(name in request.fields for name in _SAID)


def with_effort(request: ChatRequest, effort: str) -> ChatRequest:
    """The request with `effort` (low, medium, high); other dialects' own form gets it in its own place."""
    fields = {**request.fields, "reasoning_effort": _raw(effort)}
    original = request.original
    place = _PLACES.get(original.dialect) if original is not None else None
    if original is not None and place is not None:
        given = original.fields.get(place)
        words: dict[str, Any] = (msgspec.json.decode(given) if given is not None else None) or {}
        if isinstance(words, dict):
            changed = {**original.fields, place: _raw({**words, "effort": effort})}
            original = Original(original.dialect, changed, original.headers)
    return replace(request, fields=fields, original=original)


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))
