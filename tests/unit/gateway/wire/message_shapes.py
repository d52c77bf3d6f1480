"""Requests and answers of both dialects as hypothesis makes them up: all that both can say, in their usual order."""

from __future__ import annotations

import json
from base64 import b64encode
from functools import partial
from typing import Any

from hypothesis import strategies as st

Words = dict[str, Any]

TEXT = st.text(min_size=1, max_size=12)
IDS = st.text("abcXYZ019_-", min_size=2, max_size=6)
BASE64 = st.binary(min_size=1, max_size=8).map(lambda raw: b64encode(raw).decode())
MARKS = st.none() | st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=3)
SCHEMAS = st.builds(lambda inner: {"type": "object", "properties": inner}, st.dictionaries(TEXT, OBJECTS, max_size=2))
EFFORTS = st.sampled_from(["low", "medium", "high", "xhigh", "max"])
USAGE = st.fixed_dictionaries(
    {
        "input_tokens": st.integers(0, 9999),
        "cache_creation_input_tokens": st.integers(0, 999),
        "cache_read_input_tokens": st.integers(0, 999),
        "output_tokens": st.integers(1, 9999),
    }
)


@st.composite
def marked(draw: st.DrawFn, words: st.SearchStrategy[Words]) -> Words:
    """The same, sometimes with a mark for the prompt cache."""
    found, mark = draw(words), draw(MARKS)
    return found if mark is None else {**found, "cache_control": mark}


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Words]:
    """Any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


# ---- Anthropic's side ----

TEXT_BLOCK = marked(st.builds(lambda text: {"type": "text", "text": text}, TEXT))
SOURCES = st.one_of(
    st.builds(lambda data: {"type": "base64", "media_type": "image/png", "data": data}, BASE64),
    st.builds(lambda name: {"type": "url", "url": f"https://example.com/{name}"}, IDS),
)
IMAGE_BLOCK = marked(st.builds(lambda source: {"type": "image", "source": source}, SOURCES))
DOCUMENTS = st.one_of(
    st.builds(lambda data: {"type": "base64", "media_type": "application/pdf", "data": data}, BASE64),
    st.builds(lambda data: {"type": "text", "media_type": "text/plain", "data": data}, TEXT),
)
DOCUMENT_BLOCK = marked(
    st.builds(lambda source, title: {"type": "document", "source": source} | title, DOCUMENTS, optional(title=TEXT))
)
USER_BLOCKS = st.lists(TEXT_BLOCK | IMAGE_BLOCK | DOCUMENT_BLOCK, min_size=1, max_size=3)
THOUGHTS = st.one_of(
    st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, st.text(max_size=9), IDS),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, BASE64),
)
TOOLS = marked(
    st.builds(
        lambda name, schema, rest: {"name": name, "input_schema": schema, **rest},
        IDS,
        SCHEMAS,
        optional(description=TEXT, strict=st.just(True), eager_input_streaming=st.just(True)),
    )
)


def uses(ids: list[str]) -> st.SearchStrategy[list[Words]]:
    """A call for each id."""
    one = [
        marked(
            st.builds(
                lambda name, given, at=at: {"type": "tool_use", "id": at, "name": name, "input": given}, IDS, OBJECTS
            )
        )
        for at in ids
    ]
    return st.tuples(*one).map(list)


def results(ids: list[str]) -> st.SearchStrategy[list[Words]]:
    """A result for each id."""
    parts = st.lists(TEXT_BLOCK | IMAGE_BLOCK, min_size=1, max_size=2)
    rest = optional(content=TEXT | parts, is_error=st.just(True))
    return st.tuples(*[marked(rest.map(partial(_result, at))) for at in ids]).map(list)


def _result(at: str, rest: Words) -> Words:
    return {"type": "tool_result", "tool_use_id": at, **rest}


@st.composite
def messages_requests(draw: st.DrawFn) -> Words:
    """A whole request of the Messages API."""
    turns: list[Words] = [{"role": "user", "content": draw(TEXT | USER_BLOCKS)}]
    for _ in range(draw(st.integers(0, 2))):
        ids = draw(st.lists(IDS, unique=True, max_size=3))
        thoughts, texts = draw(st.lists(THOUGHTS, max_size=2)), draw(st.lists(TEXT_BLOCK, max_size=2))
        answer: list[Words] | str = [*thoughts, *texts, *draw(uses(ids))] or draw(TEXT)
        turns.append({"role": "assistant", "content": answer})
        more: list[Words] = draw(USER_BLOCKS) if not ids or draw(st.booleans()) else []
        turns.append({"role": "user", "content": [*draw(results(ids)), *more]})
    asked: Words = {"model": "m", "max_tokens": draw(st.integers(1, 9999)), "messages": turns}
    asked |= draw(
        optional(
            system=TEXT | st.lists(TEXT_BLOCK, min_size=1, max_size=2),
            temperature=st.floats(0, 1),
            top_p=st.floats(0, 1),
            top_k=st.integers(1, 99),
            stop_sequences=st.lists(TEXT, min_size=1, max_size=3),
            stream=st.booleans(),
            thinking=st.sampled_from([{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}]),
            metadata=st.builds(lambda user: {"user_id": user}, TEXT),
            service_tier=st.sampled_from(["auto", "standard_only"]),
            cache_control=st.just({"type": "ephemeral"}),
        )
    )
    output = draw(
        optional(effort=EFFORTS, format=st.builds(lambda schema: {"type": "json_schema", "schema": schema}, SCHEMAS))
    )
    if output:
        asked["output_config"] = output
    if tools := draw(st.lists(TOOLS, max_size=2)):
        asked["tools"] = tools
        kinds: list[Words] = [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": tools[0]["name"]}]
        choice = draw(st.sampled_from([*kinds, {"type": "none"}, None]))
        if choice is not None:
            alone = choice["type"] != "none" and draw(st.booleans())
            asked["tool_choice"] = {**choice, "disable_parallel_tool_use": True} if alone else choice
    return asked


@st.composite
def answers(draw: st.DrawFn) -> Words:
    """A whole message as Anthropic answers."""
    calls = draw(st.lists(IDS, unique=True, max_size=3))
    blocks: list[Words] = draw(st.lists(THOUGHTS, max_size=2))
    blocks += draw(st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXT), max_size=1))
    names = draw(st.lists(IDS, min_size=len(calls), max_size=len(calls)))
    blocks += [
        {"type": "tool_use", "id": at, "name": name, "input": draw(OBJECTS)}
        for at, name in zip(calls, names, strict=True)
    ]
    ends = [("tool_use", None)] if calls else [("end_turn", None), ("stop_sequence", "END"), ("refusal", None)]
    reason, sequence = draw(st.sampled_from([*ends, ("max_tokens", None)]))
    ending = {"stop_reason": reason, "stop_sequence": sequence, "usage": draw(USAGE)}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": blocks, **ending}


def events_of(message: Words, size: int) -> list[Words]:
    """The events that Anthropic streams for a message, its texts in pieces of `size`."""
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    start["usage"] = {**message["usage"], "output_tokens": 1}
    events: list[Words] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message["content"]):
        begin, deltas = _pieces(block, size)
        events.append({"type": "content_block_start", "index": index, "content_block": begin})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    usage = {"output_tokens": message["usage"]["output_tokens"]}
    return [*events, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def _pieces(block: Words, size: int) -> tuple[Words, list[Words]]:
    kind = block["type"]
    if kind == "text":
        return {"type": kind, "text": ""}, [{"type": "text_delta", "text": one} for one in _cut(block["text"], size)]
    if kind == "tool_use":
        words = json.dumps(block["input"]) if block["input"] else ""
        cut = [{"type": "input_json_delta", "partial_json": one} for one in _cut(words, size)]
        return {**block, "input": {}}, cut
    if kind == "thinking":
        said = [{"type": "thinking_delta", "thinking": one} for one in _cut(block["thinking"], size)]
        begin = {"type": kind, "thinking": "", "signature": ""}
        return begin, [*said, {"type": "signature_delta", "signature": block["signature"]}]
    return block, []


def _cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def accumulated(events: list[Words]) -> Words:
    """The message that events tell, as an SDK puts it together; refuses an order that Anthropic never sends."""
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    message: Words = dict(events[0]["message"])
    content: list[Words] = []
    words, opened = "", False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not opened and event["index"] == len(content)
            content.append(dict(event["content_block"]))
            words, opened = "", True
        elif event["type"] == "content_block_delta":
            assert opened and event["index"] == len(content) - 1
            words += event["delta"].get("partial_json", "")
            for name in ("text", "thinking", "signature"):
                if name in event["delta"]:
                    content[-1][name] += event["delta"][name]
        else:
            assert event["type"] == "content_block_stop" and opened
            opened = False
            if words:
                content[-1]["input"] = json.loads(words)
    assert not opened
    usage = message["usage"] | events[-2]["usage"]
    return {**message, "content": content, **events[-2]["delta"], "usage": usage}


# ---- the chat side ----

TEXT_PART = TEXT_BLOCK
IMAGE_PART = marked(
    st.builds(
        lambda url: {"type": "image_url", "image_url": {"url": url}},
        BASE64.map(lambda data: f"data:image/jpeg;base64,{data}") | IDS.map(lambda name: f"https://example.com/{name}"),
    )
)
FILE_PART = st.builds(
    lambda data, name: {"type": "file", "file": {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}},
    BASE64,
    TEXT,
)
FUNCTIONS = st.builds(
    lambda name, schema, rest: {"type": "function", "function": {"name": name, **rest, "parameters": schema}},
    IDS,
    SCHEMAS,
    optional(description=TEXT, strict=st.just(True)),
)


def calls(ids: list[str]) -> st.SearchStrategy[list[Words]]:
    """A call of a function for each id."""
    one = [
        st.builds(
            lambda name, given, at=at: {
                "id": at,
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            },
            IDS,
            OBJECTS,
        )
        for at in ids
    ]
    return st.tuples(*one).map(list)


@st.composite
def chat_requests(draw: st.DrawFn) -> Words:
    """A whole chat request, as far as Anthropic's API can say it too."""
    content = TEXT | st.lists(TEXT_PART | IMAGE_PART | FILE_PART, min_size=1, max_size=3)
    messages: list[Words] = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    messages.append({"role": "user", "content": draw(content)})
    for _ in range(draw(st.integers(0, 2))):
        ids = draw(st.lists(IDS, unique=True, max_size=3))
        said = draw(TEXT) if not ids else draw(st.none() | TEXT)
        answer: Words = {"role": "assistant", "content": said}
        if ids:
            answer["tool_calls"] = draw(calls(ids))
        if thoughts := draw(st.lists(THOUGHTS, max_size=2)):
            answer["thinking_blocks"] = thoughts
        messages.append(answer)
        messages += [{"role": "tool", "tool_call_id": at, "content": draw(TEXT)} for at in ids]
        if not ids or draw(st.booleans()):
            messages.append({"role": "user", "content": draw(content)})
    asked: Words = {"model": "m", "messages": messages, "max_tokens": draw(st.integers(1, 9999))}
    form = st.builds(
        lambda schema: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
        SCHEMAS,
    )
    asked |= draw(
        optional(
            temperature=st.floats(0, 1),
            top_p=st.floats(0, 1),
            stop=st.lists(TEXT, min_size=1, max_size=3),
            reasoning_effort=EFFORTS,
            response_format=form,
            user=TEXT,
            service_tier=st.sampled_from(["auto", "default"]),
        )
    )
    if draw(st.booleans()):
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    tools: list[Words] = draw(st.lists(FUNCTIONS, max_size=2))
    if tools:
        asked["tools"] = tools
        named = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
        asked |= draw(st.sampled_from([{}, {"tool_choice": "none"}]))
        if "tool_choice" not in asked:
            asked |= draw(optional(tool_choice=st.sampled_from(["auto", "required", named])))
            asked |= draw(st.sampled_from([{}, {"parallel_tool_calls": False}]))
    return asked
