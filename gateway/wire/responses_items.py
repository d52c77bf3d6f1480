"""The items of OpenAI's responses, read as chat messages; what no chat can be told is named, not dropped.

Reasoning of another model goes no further than its own vendor: items whose content is encrypted by an upstream stay
out of chats. What we encrypt ourselves (`sealed`) holds only what a chat endpoint wants back.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.errors import InvalidRequest

Item = dict[str, Any]
OWN_MARK = "_fp_"
_SEAL = "fp1."
_BLOCKS = msgspec.json.Decoder(list[dict[str, Any]])
_ROLES = ("user", "system", "developer", "assistant")


def made_here(item: Item) -> bool:
    """Whether the gateway made this item, so that no vendor knows its id."""
    found = item.get("id")
    return isinstance(found, str) and OWN_MARK in found


def sealed(raw: bytes) -> str:
    """JSON that a client keeps without reading it."""
    return _SEAL + base64.urlsafe_b64encode(raw).decode()


def unsealed(text: object) -> list[dict[str, Any]]:
    """The objects that `sealed` was given as a JSON list; none for anything else. Nobody vouches for them: whoever
    signed them looks at the signature."""
    if not isinstance(text, str) or not text.startswith(_SEAL):
        return []
    try:
        return _BLOCKS.decode(base64.urlsafe_b64decode(text.removeprefix(_SEAL)))
    except (ValueError, RecursionError):
        return []


def for_native(items: Iterable[Item]) -> list[Item]:
    """The same conversation for an endpoint that takes items: without ids and fields that only the gateway knows."""
    kept = []
    for item in items:
        if not made_here(item):
            kept.append(item)
        elif item.get("type") != "reasoning":
            kept.append({name: value for name, value in item.items() if name not in ("id", "extra_content")})
    return kept


def as_items(given: str | Sequence[Item]) -> list[Item]:
    """`input` as items, a plain text being what the user says."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return list(given)


class MessageReader:
    """Turns items into chat messages, one call an item; `native_only` says what no chat can be told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.native_only: str | None = None
        self._assistant: dict[str, Any] | None = None

    def read(self, item: Item, where: str) -> None:
        """`where` names the item in errors, such as input[3]; raises `InvalidRequest`."""
        kind = item.get("type") or ("message" if "role" in item else "")
        if kind == "message":
            self._message(item, where)
        elif kind == "function_call":
            self._call(item, where)
        elif kind == "function_call_output":
            self._output(item, where)
        elif kind == "reasoning":
            self._reasoning(item)
        elif kind == "item_reference":
            raise InvalidRequest(
                f"'{where}' refers to an item that is not in the conversation of 'previous_response_id'.",
                param=f"{where}.id",
            )
        elif isinstance(kind, str) and kind:
            self._beyond(f"'{where}' is of type '{kind[:40]}'")
        else:
            raise InvalidRequest(f"'{where}' must have a 'type' or a 'role'.", param=f"{where}.type")

    def _beyond(self, what: str) -> None:
        self.native_only = self.native_only or f"{what}, which needs an endpoint that takes responses as they are."

    def _message(self, item: Item, where: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise InvalidRequest(f"'{where}.role' must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
        content = self._content(item.get("content"), f"{where}.content", role)
        if role != "assistant":
            self._assistant = None
            self.messages.append({"role": role, "content": content})
            return
        message = self._turn(fresh=("content", "refusal", "tool_calls"))
        if isinstance(content, list) and len(content) == 1:
            part = content[0]
            name = "refusal" if part["type"] == "refusal" else "content"
            message[name] = part.get("refusal") or part.get("text") or ""
        else:
            message["content"] = content
        if "extra_content" in item:
            message["extra_content"] = item["extra_content"]

    def _call(self, item: Item, where: str) -> None:
        function = {"name": _text(item, "name", where), "arguments": _text(item, "arguments", where)}
        call = {"id": _text(item, "call_id", where), "type": "function", "function": function}
        if "extra_content" in item:
            call["extra_content"] = item["extra_content"]
        self._turn().setdefault("tool_calls", []).append(call)

    def _output(self, item: Item, where: str) -> None:
        self._assistant = None
        content = self._content(item.get("output"), f"{where}.output", "tool")
        self.messages.append({"role": "tool", "tool_call_id": _text(item, "call_id", where), "content": content})

    def _reasoning(self, item: Item) -> None:
        shown = [*(item.get("summary") or ()), *(item.get("content") or ())]
        text = "\n\n".join(str(part.get("text") or "") for part in shown if isinstance(part, dict))
        blocks = unsealed(item.get("encrypted_content"))
        if not text and not blocks:
            return
        message = self._turn(fresh=("reasoning_content", "thinking_blocks", "content", "refusal", "tool_calls"))
        if text:
            message["reasoning_content"] = text
        if blocks:
            message["thinking_blocks"] = blocks

    def _turn(self, fresh: tuple[str, ...] = ()) -> dict[str, Any]:
        """The assistant's message that is being read, a new one where it already has one of `fresh`."""
        if self._assistant is None or any(name in self._assistant for name in fresh):
            self._assistant = {"role": "assistant"}
            self.messages.append(self._assistant)
        return self._assistant

    def _content(self, given: object, where: str, role: str) -> str | list[dict[str, Any]]:
        if isinstance(given, str):
            return given
        if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
            raise InvalidRequest(f"'{where}' must be a text or a list of parts.", param=where)
        if not given and role != "assistant":
            raise InvalidRequest(f"'{where}' must not be empty.", param=where)
        return [self._part(part, f"{where}[{index}]") for index, part in enumerate(given)]

    def _part(self, part: Item, where: str) -> dict[str, Any]:
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text"):
            return {"type": "text", "text": _text(part, "text", where)}
        if kind == "refusal":
            return {"type": "refusal", "refusal": _text(part, "refusal", where)}
        if kind == "input_image":
            return self._image(part, where)
        if kind == "input_file":
            return self._file(part, where)
        if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
            return {"type": "input_audio", "input_audio": part["input_audio"]}
        if not isinstance(kind, str) or not kind:
            raise InvalidRequest(f"'{where}' must have a 'type'.", param=f"{where}.type")
        self._beyond(f"'{where}' is of type '{kind[:40]}'")
        return {"type": "text", "text": ""}

    def _image(self, part: Item, where: str) -> dict[str, Any]:
        if part.get("file_id") is not None:
            self._beyond(f"'{where}' names an image by 'file_id'")
            return {"type": "image_url", "image_url": {"url": ""}}
        image = {"url": _text(part, "image_url", where)}
        if part.get("detail") is not None:
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}

    def _file(self, part: Item, where: str) -> dict[str, Any]:
        if part.get("file_url") is not None or part.get("detail") not in (None, "auto"):
            self._beyond(f"'{where}' names a file by 'file_url' or asks for its 'detail'")
        named = {name: part[name] for name in ("file_data", "file_id", "filename") if part.get(name) is not None}
        if not named and part.get("file_url") is None:
            raise InvalidRequest(f"'{where}' must have 'file_data', 'file_id' or 'file_url'.", param=where)
        return {"type": "file", "file": named}


def _text(item: Item, name: str, where: str) -> str:
    found = item.get(name)
    if not isinstance(found, str):
        raise InvalidRequest(f"'{where}.{name}' must be a text.", param=f"{where}.{name}")
    return found
