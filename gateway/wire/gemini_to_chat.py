"""Gemini's answers in OpenAI's chat dialect, whole or in chunks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from time import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import UpstreamBroken, UpstreamError
from gateway.wire.sse import DONE, event

Count = Annotated[int, Meta(ge=0, le=2**40)]
Words = dict[str, Any]
_NO_ARGUMENTS = Raw(b"{}")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION", "MODEL_ARMOR"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)


class _Wire(Struct, rename="camel"):
    """Names as Google writes them."""


class FunctionCall(_Wire):
    name: str = ""
    args: Raw = _NO_ARGUMENTS
    id: str | None = None


class Part(_Wire):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None


class Content(_Wire):
    parts: list[Part] | None = None


class Candidate(_Wire):
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    logprobs_result: dict[str, Any] | None = None


class Feedback(_Wire):
    block_reason: str | None = None


class Modality(_Wire):
    modality: str | None = None
    token_count: Count | None = None


class UsageMetadata(_Wire):
    prompt_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None
    prompt_tokens_details: list[Modality] | None = None
    candidates_tokens_details: list[Modality] | None = None


class GeminiReply(_Wire):
    """A whole answer or one piece of it."""

    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None


_REPLY = msgspec.json.Decoder(GeminiReply)


def read_gemini(body: bytes) -> GeminiReply:
    """A whole answer or the payload of one event; `UpstreamBroken` where it is not one."""
    try:
        return _REPLY.decode(body)
    except _UNREADABLE as error:
        raise UpstreamBroken("The upstream's answer is not one of Gemini's.") from error


class ChatFromGemini:
    """The writer of one answer."""

    def __init__(self, wire_model: str) -> None:
        self._model = wire_model
        self._created = int(time())
        self._id = os.urandom(12).hex()
        self._usage: Words | None = None
        self._finish: dict[int, str] = {}
        self._calls: dict[int, int] = {}
        self._begun: set[int] = set()

    def whole(self, body: bytes) -> bytes:
        """One completion."""
        reply = read_gemini(body)
        self._note(reply)
        choices = [self._choice(candidate) for candidate in self._candidates(reply)]
        if not choices:
            raise UpstreamBroken("The upstream's answer has no candidates.")
        return msgspec.json.encode(
            {**self._head("chat.completion"), "choices": choices, "usage": self._usage or usage_of(UsageMetadata())}
        )

    def chunk(self, payload: bytes) -> bytes:
        """The chunks of one event; the ends of choices wait for `end`, since Gemini says STOP of calls too."""
        reply = read_gemini(payload)
        self._note(reply)
        return b"".join(
            self._event([choice]) for candidate in self._candidates(reply) for choice in self._deltas(candidate)
        )

    def end(self) -> bytes:
        """What follows the last event; `UpstreamBroken` where the answer was cut off."""
        if not self._begun or self._begun - self._finish.keys():
            raise UpstreamBroken("The upstream's stream ended before the answer was finished.")
        ends = [{"index": index, "delta": {}, "finish_reason": self._ending(index)} for index in sorted(self._finish)]
        usage = self._event([], usage=self._usage) if self._usage is not None else b""
        return b"".join(self._event([choice]) for choice in ends) + usage + DONE

    def _note(self, reply: GeminiReply) -> None:
        self._model = reply.model_version or self._model
        self._id = reply.response_id or self._id
        if reply.usage_metadata is not None:
            self._usage = usage_of(reply.usage_metadata)

    def _candidates(self, reply: GeminiReply) -> list[Candidate]:
        """The candidates; a prompt that was blocked is an answer that a filter ended."""
        if not reply.candidates and reply.prompt_feedback is not None and reply.prompt_feedback.block_reason:
            return [Candidate(finish_reason="SAFETY")]
        return reply.candidates or []

    def _deltas(self, candidate: Candidate) -> Iterator[Words]:
        index = candidate.index or 0
        if index not in self._begun:
            self._begun.add(index)
            yield _delta(index, {"role": "assistant", "content": ""})
        for part in (candidate.content and candidate.content.parts) or ():
            said = self._said(part, index)
            if said:
                yield _delta(index, said)
        if candidate.logprobs_result is not None:
            yield _delta(index, {}) | {"logprobs": {"content": _logprobs(candidate.logprobs_result), "refusal": None}}
        if candidate.finish_reason:
            self._finish[index] = _finish(candidate)

    def _said(self, part: Part, index: int) -> Words:
        """A part as a delta."""
        extra = _signature(part.thought_signature)
        if part.function_call is not None:
            return {"tool_calls": [self._call(part.function_call, index) | extra]}
        if part.text is None and not extra:
            return {}
        said: Words = {"reasoning_content" if part.thought else "content": part.text} if part.text else {}
        return said | extra

    def _call(self, call: FunctionCall, index: int) -> Words:
        place = self._calls.get(index, 0)
        self._calls[index] = place + 1
        function = {"name": call.name, "arguments": _arguments(call.args)}
        return {"index": place, "id": call.id or self._call_id(index, place), "type": "function", "function": function}

    def _call_id(self, index: int, place: int) -> str:
        """An id that is the same whenever the same answer is read."""
        return f"call_{hashlib.sha256(f'{self._id} {index} {place}'.encode()).hexdigest()[:24]}"

    def _choice(self, candidate: Candidate) -> Words:
        """A candidate as the choice of a whole answer."""
        index = candidate.index or 0
        message: Words = {"role": "assistant", "content": None, "refusal": None}
        for part in (candidate.content and candidate.content.parts) or ():
            for name, value in self._said(part, index).items():
                if name == "tool_calls":
                    calls = [{key: item for key, item in call.items() if key != "index"} for call in value]
                    message.setdefault(name, []).extend(calls)
                elif name == "extra_content":
                    message[name] = value
                else:
                    message[name] = (message.get(name) or "") + value
        self._finish[index] = _finish(candidate)
        choice = {"index": index, "message": message, "finish_reason": self._ending(index)}
        if candidate.logprobs_result is not None:
            choice["logprobs"] = {"content": _logprobs(candidate.logprobs_result), "refusal": None}
        return choice

    def _ending(self, index: int) -> str:
        finish = self._finish[index]
        return "tool_calls" if finish == "stop" and self._calls.get(index) else finish

    def _head(self, kind: str) -> Words:
        return {"id": f"chatcmpl-{self._id}", "object": kind, "created": self._created, "model": self._model}

    def _event(self, choices: list[Words], usage: Words | None = None) -> bytes:
        body = {**self._head("chat.completion.chunk"), "choices": choices}
        return event(msgspec.json.encode(body if usage is None else body | {"usage": usage}))


def _arguments(given: Raw) -> str:
    return "{}" if bytes(given) == b"null" else bytes(given).decode()


def _delta(index: int, delta: Words) -> Words:
    return {"index": index, "delta": delta, "finish_reason": None}


def _signature(signature: str | None) -> Words:
    """Where Google's own chat dialect keeps what it wants back."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def _finish(candidate: Candidate) -> str:
    """Why a candidate ended; a failure of the model is one of the upstream."""
    reason = candidate.finish_reason
    if reason in (None, "STOP"):
        return "stop"
    if reason == "MAX_TOKENS":
        return "length"
    if reason in _FILTERED:
        return "content_filter"
    why = f": {candidate.finish_message[:300]}" if candidate.finish_message else ""
    raise UpstreamError(f"The model failed to answer ({str(reason)[:60]}){why}.")


def usage_of(found: UsageMetadata) -> Words:
    """Google's counts in OpenAI's: thoughts are output, what tools brought in is input."""
    inputs = (found.prompt_token_count or 0) + (found.tool_use_prompt_token_count or 0)
    thoughts = found.thoughts_token_count or 0
    outputs = (found.candidates_token_count or 0) + thoughts
    prompt = {"cached_tokens": found.cached_content_token_count or 0}
    output = {"reasoning_tokens": thoughts}
    for details, counts in ((prompt, found.prompt_tokens_details), (output, found.candidates_tokens_details)):
        audio = sum(one.token_count or 0 for one in counts or () if one.modality == "AUDIO")
        if audio:
            details["audio_tokens"] = audio
    return {
        "prompt_tokens": inputs,
        "completion_tokens": outputs,
        "total_tokens": inputs + outputs,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": output,
    }


def _logprobs(found: Words) -> list[Words]:
    """Log probabilities of the chosen tokens, each with its likeliest rivals."""
    rivals = found.get("topCandidates") or []
    shown = []
    for place, one in enumerate(found.get("chosenCandidates") or ()):
        top = rivals[place].get("candidates") or [] if place < len(rivals) else []
        shown.append(_logprob(one) | {"top_logprobs": [_logprob(rival) for rival in top]})
    return shown


def _logprob(one: Words) -> Words:
    token = str(one.get("token") or "")
    return {"token": token, "logprob": one.get("logProbability"), "bytes": list(token.encode())}
