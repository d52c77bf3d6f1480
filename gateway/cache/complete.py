"""Collects an answer as its client is shown it, and tells at its end whether it may be given again.

While frames pass they are only put aside; they are read once, at the end. Native messages and responses are kept as the
chat answers that they are equal to, where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.wire.chat_joined import joined
from gateway.wire.messages_joined import chat_of_message, joined_message
from gateway.wire.responses_joined import chat_of_response, response_of_event
from gateway.wire.sse import ends, payload_of

MAX_BYTES = 1_000_000
_DIALECTS = frozenset({"chat", "messages", "responses"})
_ENDS = frozenset({"stop", "tool_calls", "function_call"})
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Words = dict[str, Any]


class Collector:
    """Of one answer; an answer of more than `max_bytes` is let go as soon as that is known."""

    __slots__ = ("_bytes", "_dialect", "_frames", "_max_bytes", "_stream")

    def __init__(self, dialect: str, stream: bool, max_bytes: int = MAX_BYTES) -> None:
        self._dialect = dialect
        self._stream = stream
        self._max_bytes = max_bytes
        self._frames: list[bytes] | None = [] if dialect in _DIALECTS else None
        self._bytes = 0

    @property
    def gave_up(self) -> bool:
        """Whether it is known already that nothing will come of it."""
        return self._frames is None

    def feed(self, frame: bytes) -> None:
        """A frame as the client sees it: whole events, or one whole body (to a client of a stream too)."""
        if self._frames is None:
            return
        self._bytes += len(frame)
        if self._bytes > self._max_bytes:
            self._frames = None
        else:
            self._frames.append(frame)

    def whole(self, *, length_is_own: bool = False, tokens: tuple[int, int] | None = None) -> bytes | None:
        """The answer as one chat completion, None where it is not to be given again.

        `length_is_own`: only the request's own bound can have cut it. `tokens` of prompt and answer are told where the
        stream did not tell them.
        """
        raw = b"".join(self._frames or ())
        try:
            answer = self._read(raw)
        except _UNREADABLE:
            return None
        if not isinstance(answer, dict) or not _may_be_given_again(answer, length_is_own):
            return None
        answer.pop("fingerpost", None)
        answer["object"] = "chat.completion"
        if tokens is not None and not isinstance(answer.get("usage"), dict):
            prompt, said = tokens
            answer["usage"] = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
        return msgspec.json.encode(answer)

    def _read(self, raw: bytes) -> Any:
        """The answer, decoded, or None."""
        if not self._stream or raw[:1] == b"{":
            return self._in_chat(msgspec.json.decode(raw))
        if self._dialect == "messages":
            return _of_message(joined_message(map(msgspec.json.decode, _payloads(raw))))
        if self._dialect == "responses":
            *_, last = [b"", *(payload for payload in _payloads(raw) if payload != b"[DONE]")]
            return chat_of_response(response_of_event(msgspec.json.decode(last)))
        *payloads, last = [*_payloads(raw)] or [b""]
        if last != b"[DONE]":
            return None
        chunks = [msgspec.json.decode(payload) for payload in payloads]
        if any(_is_broken(chunk) for chunk in chunks):
            return None
        return joined(chunks)

    def _in_chat(self, found: Any) -> Any:
        """What a whole body says."""
        if self._dialect == "responses":
            return chat_of_response(found)
        return found if self._dialect == "chat" else _of_message(found)


def _payloads(raw: bytes) -> Iterator[bytes]:
    """What each event says; an event that was not finished says something that can't be read."""
    *texts, rest = raw.split(b"\n\n")
    for text in texts:
        plain = text[6:] if text.startswith(b"data: ") and b"\n" not in text else payload_of(text)
        if plain:
            yield b"[DONE]" if ends(text) else plain
    if rest:
        yield b""


def _of_message(message: object) -> Any:
    body = chat_of_message(message)
    return None if body is None else msgspec.json.decode(body)


def _is_broken(found: Any) -> bool:
    """An error, or the gateway's note that it ended the answer where a budget ended."""
    if not isinstance(found, dict) or found.get("error") is not None:
        return True
    note = found.get("fingerpost")
    return isinstance(note, dict) and bool(note.get("budget_exhausted"))


def _may_be_given_again(answer: Words, length_is_own: bool) -> bool:
    choices = answer.get("choices")
    if _is_broken(answer) or not isinstance(choices, list) or not choices:
        return False
    return all(_is_complete(choice, length_is_own) for choice in choices)


def _is_complete(choice: Any, length_is_own: bool) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or choice.get("error") is not None or message.get("audio") is not None:
        return False
    finish = choice.get("finish_reason")
    cut = finish == "length" and length_is_own
    if not cut and (not isinstance(finish, str) or finish not in _ENDS):
        return False
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(_is_call(call, cut) for call in calls):
        return False
    return bool(calls or message.get("function_call") or _says(message.get("content")) or _says(message.get("refusal")))


def _says(content: object) -> bool:
    """Whether there is any text."""
    if isinstance(content, list):
        return any(isinstance(part, dict) and _says(part.get("text")) for part in content)
    return isinstance(content, str) and bool(content.strip())


def _is_call(call: Any, cut: bool) -> bool:
    """A function's call with a name, an id and an object of arguments, so that it can be said in every dialect."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not _is_name(function.get("name")) or not _is_name(call.get("id")):
        return False
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return False
    if cut or not arguments:
        return True
    try:
        return isinstance(msgspec.json.decode(arguments), dict)
    except _UNREADABLE:
        return False


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
