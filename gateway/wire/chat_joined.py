"""The chunks of a streamed chat answer joined to the whole answer they say. None where that can't be told for sure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Words = dict[str, Any]

# Said in pieces.
_TEXTS = frozenset({"content", "refusal", "reasoning_content", "reasoning"})
# Lists that grow from chunk to chunk.
_LISTS = frozenset({"annotations"})
# Of several values the last counts: they are told anew, or more fully, as the stream goes on.
_LAST = frozenset({"stop_reason", "matched_stop", "native_finish_reason", "content_filter_results"})
_LAST_ON_TOP = frozenset({"usage", "service_tier", "system_fingerprint", "citations", "search_results", "x_groq"})
_FIRST_ON_TOP = frozenset({"id", "created", "model"})
# Of a chunk alone: its padding, its kind, and this gateway's own remarks on the request.
_OF_CHUNKS = frozenset({"object", "choices", "obfuscation", "fingerpost"})


class Unclear(ValueError):
    """What the pieces make together is not certain."""


def joined(chunks: Iterable[object]) -> Words | None:
    """The answer of all chunks, decoded."""
    whole: Words = {"object": "chat.completion"}
    choices: dict[int, _Choice] = {}
    try:
        for chunk in chunks:
            if not isinstance(chunk, dict):
                return None
            _top(whole, chunk)
            for given in chunk.get("choices") or ():
                place = given.get("index") or 0
                if place not in choices:
                    choices[place] = _Choice()
                choices[place].add(given)
        whole["choices"] = [choices[place].whole(place) for place in sorted(choices)]
    except (Unclear, AttributeError, TypeError):  # or of a shape that no chunk has
        return None
    return whole


def _top(whole: Words, chunk: Words) -> None:
    for name, value in chunk.items():
        if value is None or name in _OF_CHUNKS or (name in _FIRST_ON_TOP and whole.get(name)):
            continue
        if name in _LAST_ON_TOP or name in _FIRST_ON_TOP:
            whole[name] = value
        elif whole.setdefault(name, value) != value:
            raise Unclear(name)


def _once(fields: Words, name: str, value: object) -> None:
    """A field that we don't know: told once, or the same each time; of two texts it is not known how they join."""
    if name in fields and (isinstance(value, str) or fields[name] != value):
        raise Unclear(name)
    fields[name] = value


def _named(fields: Words, name: str, value: object) -> None:
    """A field that is told once, and may be repeated or left empty."""
    if not isinstance(value, str) or (fields.get(name) and value and fields[name] != value):
        raise Unclear(name)
    fields[name] = fields.get(name) or value


class _Choice:
    """One choice's pieces."""

    __slots__ = ("_calls", "_fields", "_function", "_logprobs", "_message", "_texts", "_thoughts")

    def __init__(self) -> None:
        self._fields: Words = {"finish_reason": None}
        self._message: Words = {"role": "assistant", "content": None}
        self._texts: dict[str, list[str]] = {}
        self._calls: list[_Call] = []
        self._function: _Call | None = None
        self._thoughts: dict[int, Words] = {}
        self._logprobs: dict[str, list[Any]] = {}

    def add(self, given: Words) -> None:
        """A choice as a chunk has it."""
        for name, value in given.items():
            if value is None or name == "index":
                continue
            if name == "delta":
                self._hear(value)
            elif name == "finish_reason":
                _named(self._fields, name, value)
            elif name == "logprobs":
                self._weigh(value)
            elif name in _LAST:
                self._fields[name] = value
            elif self._fields.setdefault(name, value) != value:
                raise Unclear(name)

    def whole(self, place: int) -> Words:
        """The choice of a whole answer."""
        message = self._message
        for name, pieces in self._texts.items():
            message[name] = "".join(pieces)
        if self._thoughts:
            message["thinking_blocks"] = [self._thoughts[index] for index in sorted(self._thoughts)]
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls]
        if self._function is not None:
            message["function_call"] = self._function.function()
        choice = {"index": place, "message": message, **self._fields}
        return choice if not self._logprobs else choice | {"logprobs": self._logprobs}

    def _hear(self, delta: Words) -> None:
        for name, value in delta.items():
            if value is None:
                continue
            if name in _TEXTS:
                if not isinstance(value, str):
                    raise Unclear(name)
                self._texts.setdefault(name, []).append(value)
            elif name == "tool_calls":
                for piece in value:
                    self._call(piece)
            elif name == "function_call":
                self._function = self._function or _Call(0)
                self._function.say(value)
            elif name == "thinking_blocks":
                self._think(value)
            elif name in _LISTS:
                self._message[name] = self._message.get(name, []) + value
            elif name != "role":
                _once(self._message, name, value)

    def _call(self, piece: Words) -> None:
        """A piece goes on with the call of its place, unless it has an id of its own: some give all calls place 0."""
        index, call_id = piece.get("index"), piece.get("id")
        call = next((one for one in reversed(self._calls) if index is None or one.index == index), None)
        if call is None or (call_id and call.fields.get("id") not in (None, "", call_id)):
            call = _Call(index)
            self._calls.append(call)
        call.add(piece)

    def _think(self, blocks: list[Words]) -> None:
        """Blocks come whole, each once."""
        for block in blocks:
            index = block.get("index", len(self._thoughts))
            if index in self._thoughts:
                raise Unclear("thinking_blocks")
            self._thoughts[index] = {name: value for name, value in block.items() if name != "index"}

    def _weigh(self, logprobs: Words) -> None:
        for name, value in logprobs.items():
            if value is not None:
                if not isinstance(value, list):
                    raise Unclear("logprobs")
                self._logprobs.setdefault(name, []).extend(value)


class _Call:
    """One tool call's pieces."""

    __slots__ = ("_arguments", "_function", "fields", "index")

    def __init__(self, index: object) -> None:
        self.index = index
        self.fields: Words = {}
        self._function: Words = {}
        self._arguments: list[str] = []

    def add(self, piece: Words) -> None:
        """A piece of `tool_calls`."""
        for name, value in piece.items():
            if value is None or name == "index":
                continue
            if name == "function":
                self.say(value)
            elif name in ("id", "type"):
                _named(self.fields, name, value)
            else:
                _once(self.fields, name, value)

    def say(self, function: Words) -> None:
        """A piece of its function."""
        for name, value in function.items():
            if value is None:
                continue
            if name == "arguments":
                if not isinstance(value, str):
                    raise Unclear(name)
                self._arguments.append(value)
            elif name == "name":
                _named(self._function, name, value)
            else:
                _once(self._function, name, value)

    def function(self) -> Words:
        """Its function, whole."""
        return {**self._function, "arguments": "".join(self._arguments)}

    def whole(self) -> Words:
        """The call, whole."""
        return {"type": "function", **self.fields, "function": self.function()}
