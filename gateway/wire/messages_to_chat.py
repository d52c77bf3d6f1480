"""Anthropic's request fields in the hub's chat form; knows no endpoint. `chat_to_messages` is the way back.

What chat has no word for but does no harm rides along under the names that the ecosystem uses: `cache_control` on
parts, messages, calls and tools, `thinking` beside `reasoning_effort`, `thinking_blocks` and `reasoning_content` on
answers, `is_error` on results. `chat_plain` takes them off again for vendors that would choke on them. Anything else
is noted: only an endpoint that speaks the Messages API itself can be asked.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec

from gateway.wire.messages_fields import Field, Notes

Chat = dict[str, Any]

UNTITLED = "document.pdf"
# Fields that are their own words in chat, with no change of value.
_SAME = ("model", "stream", "temperature", "top_p", "top_k", "thinking", "cache_control", "models", "cache")
_TIERS = {"auto": "auto", "standard_only": "default"}
_THINKING = ("enabled", "adaptive", "disabled")
_TRANSLATED = {
    *_SAME,
    *("system", "messages", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "output_config"),
    "service_tier",
}


def chat_of(given: dict[str, Any], notes: Notes) -> Chat:
    """The chat fields of a request whose top level is validated; `InvalidRequest` names what is malformed below.

    `notes` takes the first field that the chat form leaves out.
    """
    chat: Chat = {name: given[name] for name in _SAME if given.get(name) is not None}
    chat["messages"] = [*_system(given.get("system"), notes), *_turns(given["messages"], notes)]
    if given["max_tokens"] > 0:
        chat["max_tokens"] = given["max_tokens"]
    else:
        notes.leave_out("max_tokens", "0, which only fills the prompt cache")
    if given.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    if given.get("stop_sequences"):
        chat["stop"] = given["stop_sequences"]
    _tools(given, chat, notes)
    _controls(given, chat, notes)
    for name in given.keys() - _TRANSLATED:
        if given[name] is not None and (name, given[name]) != ("speed", "standard"):
            notes.leave_out(name)
    return chat


def _controls(given: dict[str, Any], chat: Chat, notes: Notes) -> None:
    thinking, tier = Field(given.get("thinking") or {}, "thinking"), given.get("service_tier")
    if thinking.value and thinking.text("type") not in _THINKING:
        notes.leave_out("thinking.type", thinking.text("type"))
    if tier is not None:
        chat["service_tier"] = _TIERS[tier]
    metadata = Field(given.get("metadata") or {}, "metadata")
    if (user := metadata.optional_text("user_id")) is not None:
        chat["user"] = user
    metadata.only("user_id", notes=notes)
    output = Field(given.get("output_config") or {}, "output_config")
    if (effort := output.optional_text("effort")) is not None:
        chat["reasoning_effort"] = effort
    form = output.optional_object("format")
    if form is not None:
        if form.text("type") != "json_schema":
            notes.leave_out(form.at("type"), form.text("type"))
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": form.object("schema").value, "strict": True},
        }
        form.only("type", "schema", notes=notes)
    output.only("effort", "format", notes=notes)


def _tools(given: dict[str, Any], chat: Chat, notes: Notes) -> None:
    tools = [_tool(Field(tool, f"tools[{place}]"), notes) for place, tool in enumerate(given.get("tools") or ())]
    if found := [tool for tool in tools if tool is not None]:
        chat["tools"] = found
    if not given.get("tool_choice"):
        return
    choice = Field(given["tool_choice"], "tool_choice")
    kind = choice.text("type")
    if kind == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.text("name")}}
    elif kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise choice.wrong("type", "one of auto, any, tool, none")
    if choice.flag("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False
    choice.only("type", "name", "disable_parallel_tool_use", notes=notes)


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool(tool: Field, notes: Notes) -> Chat | None:
    """A client's own tool as a function; None for those that Anthropic runs or has trained for."""
    kind = tool.optional_text("type")
    if kind not in (None, "custom"):
        notes.leave_out(tool.where, kind)
        return None
    function: Chat = {"name": tool.text("name")}
    if (description := tool.optional_text("description")) is not None:
        function["description"] = description
    function["parameters"] = tool.object("input_schema").value
    if tool.flag("strict"):
        function["strict"] = True
    if tool.value.get("allowed_callers") not in (None, ["direct"]):
        notes.leave_out(tool.at("allowed_callers"))
    tool.only(*_TOOL_FIELDS, notes=notes)
    return {"type": "function", "function": function, **_kept(tool, "cache_control", "eager_input_streaming")}


_TOOL_FIELDS = (
    *("type", "name", "description", "input_schema", "strict", "allowed_callers"),
    *("cache_control", "eager_input_streaming"),
)


def _system(system: Any, notes: Notes) -> list[Chat]:
    if not system:
        return []
    return [{"role": "system", "content": _texts(system, "system", notes)}]


def _texts(content: Any, where: str, notes: Notes) -> str | list[Chat]:
    """Content that may hold texts only."""
    if isinstance(content, str):
        return content
    blocks = [Field(block, f"{where}[{place}]") for place, block in enumerate(content)]
    return [part for block in blocks if (part := _part(block, notes, ("text",))) is not None]


def _turns(turns: list[dict[str, Any]], notes: Notes) -> list[Chat]:
    messages: list[Chat] = []
    for place, turn in enumerate(turns):
        where = f"messages[{place}]"
        Field(turn, where).only("role", "content", notes=notes)
        content, at = turn["content"], f"{where}.content"
        if turn["role"] == "system":
            messages.append({"role": "system", "content": _texts(content, at, notes)})
        elif isinstance(content, str):
            messages.append({"role": turn["role"], "content": content})
        else:
            blocks = [Field(block, f"{at}[{place}]") for place, block in enumerate(content)]
            messages.extend(_asked(blocks, notes) if turn["role"] == "user" else [_answered(blocks, notes)])
    if turns[-1]["role"] == "assistant":
        notes.leave_out(f"messages[{len(turns) - 1}]", "an answer to be continued")
    return messages


def _asked(blocks: list[Field], notes: Notes) -> list[Chat]:
    """A user's turn: its tool results, which both dialects want first, then the rest."""
    results = [block for block in blocks if block.text("type") == "tool_result"]
    parts = [_part(block, notes) for block in blocks if block.text("type") != "tool_result"]
    messages = [_result(block, notes) for block in results]
    if parts or not messages:
        messages.append({"role": "user", "content": [part for part in parts if part is not None]})
    return messages


def _result(block: Field, notes: Notes) -> Chat:
    content = block.value.get("content")
    message: Chat = {"role": "tool", "tool_call_id": block.text("tool_use_id")}
    if content is None or isinstance(content, str):
        message["content"] = content or ""
    else:
        parts = [_part(one, notes) for one in block.objects("content")]
        message["content"] = [part for part in parts if part is not None]
    if block.flag("is_error"):
        message["is_error"] = True
    block.only("type", "tool_use_id", "content", "is_error", "cache_control", notes=notes)
    return message | _kept(block, "cache_control")


def _answered(blocks: list[Field], notes: Notes) -> Chat:
    """An assistant's turn: chat keeps thoughts, text and calls apart and so forgets how they were mixed."""
    texts: list[Chat] = []
    calls: list[Chat] = []
    thoughts: list[Chat] = []
    for block in blocks:
        kind = block.text("type")
        if kind == "tool_use":
            calls.append(_call(block, notes))
        elif kind in _THOUGHTS:
            thoughts.append({"type": kind} | {name: block.text(name) for name in _THOUGHTS[kind]})
            block.only("type", *_THOUGHTS[kind], notes=notes)
        elif (part := _part(block, notes, ("text",))) is not None:
            texts.append(part)
    message: Chat = {"role": "assistant", "content": texts or None}
    if thoughts:
        said = [one["thinking"] for one in thoughts if one.get("thinking")]
        message |= {"reasoning_content": "\n\n".join(said)} if said else {}
        message["thinking_blocks"] = thoughts
    return message | ({"tool_calls": calls} if calls else {})


_THOUGHTS = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}


def _call(block: Field, notes: Notes) -> Chat:
    arguments = msgspec.json.encode(block.object("input").value).decode()
    caller = block.optional_object("caller")
    if caller is not None and caller.text("type") != "direct":
        notes.leave_out(caller.where, caller.text("type"))
    block.only("type", "id", "name", "input", "cache_control", "caller", notes=notes)
    function = {"name": block.text("name"), "arguments": arguments}
    return {"id": block.text("id"), "type": "function", "function": function, **_kept(block, "cache_control")}


def _part(block: Field, notes: Notes, allowed: tuple[str, ...] = ("text", "image", "document")) -> Chat | None:
    """A block of content as a part; None, and a note, for what only Anthropic knows."""
    kind = block.text("type")
    if kind not in allowed:
        notes.leave_out(block.where, kind)
        return None
    part = _PARTS[kind](block, notes)
    return None if part is None else part | _kept(block, "cache_control")


def _text(block: Field, notes: Notes) -> Chat:
    if block.value.get("citations"):
        notes.leave_out(block.at("citations"))
    block.only("type", "text", "citations", "cache_control", notes=notes)
    return {"type": "text", "text": block.text("text")}


def _image(block: Field, notes: Notes) -> Chat | None:
    source = block.object("source")
    block.only("type", "source", "cache_control", notes=notes)
    kind = source.text("type")
    if kind == "base64":
        url = f"data:{source.text('media_type')};base64,{source.text('data')}"
    elif kind == "url":
        url = source.text("url")
    else:
        notes.leave_out(source.where, kind)
        return None
    return {"type": "image_url", "image_url": {"url": url}}


def _document(block: Field, notes: Notes) -> Chat | None:
    source, citations = block.object("source"), block.optional_object("citations")
    kind = source.text("type")
    if citations is not None and citations.flag("enabled"):
        notes.leave_out(citations.where)
    block.only("type", "source", "title", "citations", "cache_control", notes=notes)
    if kind == "base64":
        data = f"data:{source.text('media_type')};base64,{source.text('data')}"
    elif kind == "text":
        data = f"data:text/plain;base64,{b64encode(source.text('data').encode()).decode()}"
    else:
        notes.leave_out(source.where, kind)
        return None
    return {"type": "file", "file": {"filename": block.optional_text("title") or UNTITLED, "file_data": data}}


_PARTS = {"text": _text, "image": _image, "document": _document}


def _kept(block: Field, *names: str) -> Chat:
    """Extensions that ride along."""
    return {name: block.value[name] for name in names if block.value.get(name) is not None}
