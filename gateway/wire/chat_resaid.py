"""A chat answer that is in hand, said anew: with the usage of several calls, or as a stream. Knows no upstream."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from gateway.errors import UpstreamBroken
from gateway.wire.sse import DONE, event, payload_of

_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_HEAD = ("id", "created", "model", "service_tier", "system_fingerprint")


def with_usage(body: bytes, usage: dict[str, Any], *, hide_logprobs: bool = False) -> bytes:
    """A whole answer with another usage; log-probabilities that the client did not ask for are taken off."""
    fields: dict[str, Any] = dict(_read(body))
    fields["usage"] = usage
    if hide_logprobs and b'"logprobs"' in body:
        choices = msgspec.json.decode(fields["choices"], type=list[dict[str, Any]])
        fields["choices"] = [{**choice, "logprobs": None} if "logprobs" in choice else choice for choice in choices]
    return msgspec.json.encode(fields)


def frame_with_usage(frame: bytes, usage: dict[str, Any]) -> bytes:
    """A frame of whole events, in which a usage that is not null is replaced."""
    if b'"usage"' not in frame:
        return frame
    return b"".join(_event_with_usage(text, usage) for text in frame.split(b"\n\n")[:-1])


def as_stream(body: bytes, wants_usage: bool) -> bytes:
    """A whole answer as the events of a stream: one chunk a choice says it, one ends it, then usage where wanted."""
    fields = _read(body)
    head: dict[str, Any] = {name: fields[name] for name in _HEAD if name in fields}
    head["object"] = "chat.completion.chunk"
    choices = msgspec.json.decode(fields.get("choices", b"[]"), type=list[dict[str, Any]])
    events = []
    for place, choice in enumerate(choices):
        index = choice.get("index", place)
        said: dict[str, Any] = {"index": index, "delta": _delta(choice.get("message") or {}), "finish_reason": None}
        if choice.get("logprobs") is not None:
            said["logprobs"] = choice["logprobs"]
        events.append({**head, "choices": [said]})
        end = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        events.append({**head, "choices": [end]})
    if wants_usage and "usage" in fields:
        events.append({**head, "choices": [], "usage": fields["usage"]})
    return b"".join(event(msgspec.json.encode(one)) for one in events) + DONE


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    delta = {name: value for name, value in message.items() if value is not None}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls) if isinstance(call, dict)]
    return {"role": "assistant", **delta}


def _event_with_usage(text: bytes, usage: dict[str, Any]) -> bytes:
    untouched = text + b"\n\n"
    if b'"usage"' not in text:
        return untouched
    try:
        fields: dict[str, Any] = dict(_FIELDS.decode(payload_of(text)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return untouched
    if "usage" not in fields or bytes(fields["usage"]) == b"null":
        return untouched
    return event(msgspec.json.encode({**fields, "usage": usage}))


def _read(body: bytes) -> dict[str, Raw]:
    try:
        return _FIELDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken("The upstream's answer is not valid JSON.") from error
