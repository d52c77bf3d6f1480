"""Chat requests as the gateway itself asks them: the same words, other parameters. Envelope and fields stay in step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, structs

from gateway.wire.chat_request import ChatRequest, Message, Original

# A dialect that no endpoint speaks: all are sent the chat form, and extensions of the client's dialect are taken off.
TRANSLATED = "translated"
# What shapes the form of an answer that a client reads, and would get in the way of a judge.
_FORM = (
    *("response_format", "stop", "logprobs", "top_logprobs", "logit_bias", "n", "seed", "stream", "stream_options"),
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "tools", "tool_choice"),
    *("parallel_tool_calls", "functions", "function_call", "presence_penalty", "frequency_penalty", "prediction"),
    *("repetition_penalty", "verbosity", "reasoning_effort", "thinking", "modalities", "audio"),
)


def as_chat(request: ChatRequest) -> ChatRequest:
    """The same request, to be sent to every endpoint in the chat form."""
    if request.original is None:
        return request
    return replace(request, original=Original(TRANSLATED, request.original.fields))


def as_whole(request: ChatRequest) -> ChatRequest:
    """The same request for an answer in one piece."""
    return _edited(request, ("stream", "stream_options"), {}) if request.stream else request


def as_sample(request: ChatRequest, number: int, temperature: float | None) -> ChatRequest:
    """The request for one of several samples: a seed of its own where the client gave one, which would otherwise make
    all the same; `temperature` where the client named none."""
    changes: dict[str, Any] = {}
    if request.envelope.seed is not None and number:
        changes["seed"] = request.envelope.seed + number
    if temperature is not None and request.envelope.temperature is None:
        changes["temperature"] = temperature
    return _edited(request, (), changes) if changes else request


def with_logprobs(request: ChatRequest) -> ChatRequest:
    """The request with log-probabilities asked for, and those of what else might have been said."""
    return request if request.envelope.logprobs else _edited(request, (), {"logprobs": True, "top_logprobs": 5})


def with_note(request: ChatRequest, note: str) -> ChatRequest:
    """The conversation with one more message of the user's."""
    messages = msgspec.json.decode(request.fields["messages"], type=list[Any])
    fields = {**request.fields, "messages": _raw([*messages, {"role": "user", "content": note}])}
    envelope = structs.replace(
        request.envelope, messages=[*request.envelope.messages, Message(role="user", content=note)]
    )
    return replace(request, envelope=envelope, fields=fields)


def for_judging(request: ChatRequest, note: str, max_tokens: int) -> ChatRequest:
    """The conversation with a note, for a short whole answer of a free form.

    Marked as translated, since its bound is ours: vendors that know it by another name are told by that.
    """
    short = _edited(with_note(as_whole(request), note), _FORM, {"max_tokens": max_tokens})
    return short if short.original is not None else replace(short, original=Original(TRANSLATED, short.fields))


def _edited(request: ChatRequest, dropped: Collection[str], changes: dict[str, Any]) -> ChatRequest:
    fields = {name: raw for name, raw in request.fields.items() if name not in dropped}
    fields |= {name: _raw(value) for name, value in changes.items()}
    known = request.envelope.__struct_fields__
    values: dict[str, Any] = {**{name: None for name in dropped if name in known}, **changes}
    return replace(request, envelope=structs.replace(request.envelope, **values), fields=fields)


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))
