"""Chat answers of any shape, whole and cut into chunks, for tests of what is written from them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from gateway.wire.sse import DONE, event

Message = dict[str, Any]

texts = st.text(min_size=1, max_size=12)
arguments = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3).map(json.dumps)
extras = st.sampled_from([{}, {"extra_content": {"google": {"thought_signature": "c2ln"}}}])


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """An assistant's message that says something."""
    message: Message = {"role": "assistant"}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(texts)
    said = draw(st.sampled_from(["content", "refusal", "calls", "both"]))
    if said in ("content", "both"):
        message["content"] = draw(texts)
    if said == "refusal":
        message["refusal"] = draw(texts)
    if said in ("calls", "both"):
        names = draw(st.lists(texts, min_size=1, max_size=3))
        message["tool_calls"] = [
            {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": draw(arguments)}}
            | draw(extras)
            for place, name in enumerate(names)
        ]
    return message


def whole(message: Message, finish_reason: str = "stop") -> bytes:
    """A chat completion."""
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "cost": 0.25}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"id": "c", "model": "w", "choices": [choice], "usage": usage}).encode()


def chunks(message: Message, size: int, finish_reason: str = "stop") -> list[bytes]:
    """The same answer as a stream whose texts come in pieces of `size` characters."""
    deltas: list[Message] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: piece} for piece in _pieces(message.get(name, ""), size)]
    for place, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        head = {**call, "index": place, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [head]})
        deltas += [
            {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}
            for piece in _pieces(function["arguments"], size)
        ]
    frames = [_chunk({"index": 0, "delta": delta, "finish_reason": None}) for delta in deltas]
    frames.append(_chunk({"index": 0, "delta": {}, "finish_reason": finish_reason}))
    usage = json.loads(whole(message))["usage"]
    return [*frames, event(json.dumps({"id": "c", "model": "w", "choices": [], "usage": usage}).encode()), DONE]


def _chunk(choice: Message) -> bytes:
    return event(json.dumps({"id": "c", "model": "w", "choices": [choice]}).encode())


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
