"""The messages of a chat request as Anthropic's system prompt and turns; knows no other field."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.errors import InvalidRequest, UnsupportedCapability
from gateway.wire.messages_to_chat import UNTITLED

Words = dict[str, Any]

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,(?P<data>.*)", re.DOTALL)
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
# What answers carry that is no part of what was said, or can't be said unsigned: clients send it back as they got it.
_ECHOES = frozenset({"id", "annotations", "reasoning_content", "reasoning", "reasoning_details", "extra_content"})
_KNOWN = frozenset({"role", "content", "cache_control", *_ECHOES})
_KNOWN_BY_ROLE = {
    "assistant": _KNOWN | {"tool_calls", "refusal", "thinking_blocks"},
    "tool": _KNOWN | {"tool_call_id", "is_error", "name"},
}
_THOUGHTS = {"thinking": ("type", "thinking", "signature"), "redacted_thinking": ("type", "data")}


def turns_of(messages: list[Words]) -> tuple[str | list[Words] | None, list[Words]]:
    """System prompt and turns. System and developer messages are drawn to the front, neighbours of one role merged."""
    system: list[str | list[Words]] = []
    turns: list[Words] = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        role = message["role"]
        for name, value in message.items():
            if value and name not in _KNOWN_BY_ROLE.get(role, _KNOWN):
                raise _unsayable(f"{where}.{name}")
        if role in ("system", "developer"):
            system.append(_content(message, where))
        elif role == "assistant":
            _add(turns, role, _answer(message, where))
        elif role == "tool":
            _add(turns, "user", [_result(message, where)])
        elif role == "user":
            _add(turns, role, _content(message, where))
        else:
            raise _unsayable(f"{where}.role", f"'{role}' has no counterpart in Anthropic's Messages API; use 'tool'")
    if not system:
        return None, turns
    return (system[0] if len(system) == 1 else [block for one in system for block in _blocks(one)]), turns


def _add(turns: list[Words], role: str, content: str | list[Words]) -> None:
    if role == "assistant" and not content:
        return  # an answer that said nothing, which Anthropic would refuse
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] = [*_blocks(turns[-1]["content"]), *_blocks(content)]
    else:
        turns.append({"role": role, "content": content})


def _blocks(content: str | list[Words]) -> list[Words]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _content(message: Words, where: str) -> str | list[Words]:
    """Content as it is, or as blocks where it is in parts or marked for the cache as a whole."""
    content = message.get("content") or ""
    blocks: str | list[Words] = content if isinstance(content, str) else _parts(content, f"{where}.content")
    mark = message.get("cache_control")
    if mark is None or not (marked := _blocks(blocks)):
        return blocks
    return [*marked[:-1], {**marked[-1], "cache_control": mark}]


def _parts(content: Iterable[Words], where: str) -> list[Words]:
    blocks = []
    for place, part in enumerate(content):
        at = f"{where}[{place}]"
        kind = part.get("type")
        if kind not in _PARTS:
            raise _unsayable(at, f"is of type '{kind}', which has no counterpart in Anthropic's Messages API")
        block = _PARTS[kind](part, at)
        if part.get("cache_control") is not None:
            block["cache_control"] = part["cache_control"]
        if block.get("text") != "":  # Anthropic refuses empty texts, which say nothing anyway
            blocks.append(block)
    return blocks


def _text(part: Words, where: str) -> Words:
    return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}


def _image(part: Words, where: str) -> Words:
    given = part.get("image_url")
    image = {"url": given} if isinstance(given, str) else given
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise InvalidRequest(f"'{where}.image_url.url' must be a text.", param=f"{where}.image_url.url")
    if image.get("detail") not in (None, "auto", "high"):
        raise _unsayable(f"{where}.image_url.detail")
    url = image["url"]
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, data = _data(url, f"{where}.image_url.url")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _file(part: Words, where: str) -> Words:
    file = part.get("file")
    if not isinstance(file, dict) or not isinstance(file.get("file_data"), str):
        raise _unsayable(f"{where}.file", "can only be sent to Anthropic with its content in 'file_data'")
    kind, data = _data(file["file_data"], f"{where}.file.file_data")
    if kind == "text/plain":
        source = {"type": "text", "media_type": kind, "data": _plain(data, f"{where}.file.file_data")}
    elif kind == "application/pdf":
        source = {"type": "base64", "media_type": kind, "data": data}
    else:
        raise _unsayable(f"{where}.file", f"is of type '{kind[:60]}'; Anthropic takes application/pdf and text/plain")
    title = file.get("filename")
    return {"type": "document", "source": source} | ({"title": title} if title not in (None, UNTITLED) else {})


_PARTS = {"text": _text, "refusal": _text, "image_url": _image, "file": _file}


def _data(url: str, where: str) -> tuple[str, str]:
    """Media type and base64 text of a data URL (RFC 2397)."""
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise InvalidRequest(f"'{where}' must be a data: URL with a media type and base64 content.", param=where)
    return found["kind"], found["data"]


def _plain(data: str, where: str) -> str:
    try:
        return b64decode(data, validate=True).decode()
    except ValueError as error:
        raise InvalidRequest(f"'{where}' is not a UTF-8 text in base64.", param=where) from error


def _result(message: Words, where: str) -> Words:
    content = message.get("content") or ""
    result: Words = {"type": "tool_result", "tool_use_id": _id(message["tool_call_id"])}
    if content:
        result["content"] = content if isinstance(content, str) else _parts(content, f"{where}.content")
    if message.get("is_error"):
        result["is_error"] = True
    if message.get("cache_control") is not None:
        result["cache_control"] = message["cache_control"]
    return result


def _answer(message: Words, where: str) -> str | list[Words]:
    """An assistant's turn: signed thoughts first, as Anthropic demands, then text, then calls."""
    content = _content(message, where)
    refusal, calls = message.get("refusal"), message.get("tool_calls") or []
    thoughts = _signed(message.get("thinking_blocks"), f"{where}.thinking_blocks")
    if not (refusal or calls or thoughts):
        return content
    blocks = [*thoughts, *_blocks(content)]
    if refusal:
        blocks.append({"type": "text", "text": refusal})
    return blocks + [_call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(calls)]


def _signed(thoughts: Any, where: str) -> list[Words]:
    """Thinking blocks as Anthropic signed them; those of other models are left out, since it would refuse them."""
    if thoughts and not isinstance(thoughts, list):
        raise InvalidRequest(f"'{where}' must be a list of thinking blocks.", param=where)
    kept = []
    for place, one in enumerate(thoughts or ()):
        if not isinstance(one, dict) or str(one.get("type")) not in _THOUGHTS:
            raise InvalidRequest(f"'{where}[{place}]' is no thinking block.", param=f"{where}[{place}]")
        if one.get("signature") or one.get("data"):
            kept.append({name: one.get(name, "") for name in _THOUGHTS[one["type"]]})
    return kept


def _call(call: Any, where: str) -> Words:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(call.get("id"), str):
        raise _unsayable(where, "is no call of a function with an 'id'")
    arguments = function.get("arguments") or "{}"
    try:
        parsed = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidRequest(
            f"'{where}.function.arguments' must be a JSON object.", param=f"{where}.function.arguments"
        )
    said = {"type": "tool_use", "id": _id(call["id"]), "name": function.get("name"), "input": parsed}
    mark = call.get("cache_control")
    return said if mark is None else said | {"cache_control": mark}


def _id(given: str) -> str:
    """Other vendors' ids in the letters that Anthropic takes; a call and its result change alike."""
    return _NOT_IN_IDS.sub("_", given)


def _unsayable(where: str, why: str = "has no counterpart in Anthropic's Messages API") -> UnsupportedCapability:
    return UnsupportedCapability(f"'{where}' {why}.", param=where)
