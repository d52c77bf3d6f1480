"""Tools and tool choice of OpenAI's responses in chat's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.errors import InvalidRequest

_CARRIED = ("name", "description", "parameters", "strict")
_CHOICES = ("none", "auto", "required")


def chat_tools(tools: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """The functions, and why no chat will do: built-in and free-form tools run only where responses are native."""
    found, reason = [], None
    for position, tool in enumerate(tools):
        kind = tool.get("type")
        if kind != "function":
            if not isinstance(kind, str):
                raise InvalidRequest(f"'tools[{position}].type' is missing.", param=f"tools[{position}].type")
            reason = reason or f"The tool '{kind[:40]}' ('tools[{position}]') {_NATIVE}"
            continue
        if not isinstance(tool.get("name"), str):
            raise InvalidRequest(f"'tools[{position}].name' must be a text.", param=f"tools[{position}].name")
        beyond = next((name for name, value in tool.items() if name not in (*_CARRIED, "type") and value), None)
        if beyond is not None and not (beyond == "allowed_callers" and tool[beyond] == ["direct"]):
            reason = reason or f"'tools[{position}].{beyond[:40]}' {_NATIVE}"
        function = {name: tool[name] for name in _CARRIED if tool.get(name) is not None}
        found.append({"type": "function", "function": function})
    return found, reason


def chat_tool_choice(choice: str | dict[str, Any] | None) -> tuple[str | dict[str, Any] | None, str | None]:
    """The choice, and why no chat will do."""
    if choice is None:
        return None, None
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise InvalidRequest("'tool_choice' must be none, auto, required or an object.", param="tool_choice")
        return choice, None
    kind = choice.get("type")
    if kind == "function" and isinstance(choice.get("name"), str):
        return _function(choice), None
    allowed = choice.get("tools")
    if kind == "allowed_tools" and isinstance(allowed, list) and all(_is_function(tool) for tool in allowed):
        tools = [_function(tool) for tool in allowed]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": tools}}, None
    if not isinstance(kind, str):
        raise InvalidRequest("'tool_choice.type' is missing.", param="tool_choice.type")
    return None, f"A 'tool_choice' of type '{kind[:40]}' {_NATIVE}"


def _is_function(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("name"), str)


def _function(named: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": named["name"]}}


_NATIVE = "needs an endpoint that takes responses as they are."
