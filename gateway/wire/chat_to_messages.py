"""A chat request in Anthropic's words, for endpoints that speak the Messages API; `messages_to_chat` is the way back.

Every field is translated, known to change nothing, or refused with its name: nothing is dropped in silence. What is
left out because it only labels or steers a vendor's own cache is listed in `_LABELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.errors import UnsupportedCapability
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_turns_to_messages import turns_of

Words = dict[str, Any]

# Labels of a vendor's own storage and hints for its cache: the answer is the same without them.
_LABELS = frozenset(
    {"metadata", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "safety_identifier"}
)
# Read elsewhere.
_ELSEWHERE = frozenset(
    {"model", "models", "messages", "stream_options", "max_tokens", "max_completion_tokens", "parallel_tool_calls"}
)
# Values that ask for what Anthropic does anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "modalities": (["text"],),
    "store": (False,),
    "verbosity": ("medium",),
    "functions": ([],),
    "function_call": ("none",),
}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS = {"auto": "auto", "default": "standard_only"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_NO_PARAMETERS = {"type": "object", "properties": {}}


def messages_body(request: ChatRequest, wire_model: str, default_max_tokens: int) -> bytes:
    """The body for a Messages endpoint; `UnsupportedCapability` or `InvalidRequest` name the field."""
    return msgspec.json.encode(messages_of(request, wire_model, default_max_tokens))


def messages_of(request: ChatRequest, wire_model: str, default_max_tokens: int) -> Words:
    """Likewise, as plain values."""
    given = {name: msgspec.json.decode(raw) for name, raw in request.fields.items() if bytes(raw) != b"null"}
    bound = request.max_output_tokens or default_max_tokens
    words: Words = {"model": wire_model, "max_tokens": min(bound, request.cap_tokens or bound)}
    system, words["messages"] = turns_of(given["messages"])
    if system:
        words["system"] = system
    for name, value in given.items():
        if name in _TRANSLATORS:
            _TRANSLATORS[name](value, words)
        elif name not in _ELSEWHERE and name not in _LABELS and value not in _NEUTRAL.get(name, ()):
            raise unsayable(name)
    if "user" not in given and given.get("safety_identifier"):
        words.setdefault("metadata", {"user_id": given["safety_identifier"]})
    _finish_choice(words, parallel=given.get("parallel_tool_calls") is not False)
    return words


def _finish_choice(words: Words, parallel: bool) -> None:
    if "tools" not in words:
        # Anthropic refuses a choice where there is nothing to choose from, even if the choice is none.
        if words.get("tool_choice", {}).get("type") in ("auto", "none"):
            del words["tool_choice"]
    elif not parallel:
        choice = words.setdefault("tool_choice", {"type": "auto"})
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True


def unsayable(name: str, why: str = "has no counterpart in Anthropic's Messages API") -> UnsupportedCapability:
    """The refusal that names a field."""
    return UnsupportedCapability(f"'{name}' {why}.", param=name)


def _same(name: str, to: str | None = None) -> Callable[[Any, Words], None]:
    def put(value: Any, words: Words) -> None:
        words[to or name] = value

    return put


def _temperature(value: float, words: Words) -> None:
    if value > 1:
        raise unsayable("temperature", f"goes up to 1 for this model, not {value:g}")
    words["temperature"] = value


def _top_k(value: int, words: Words) -> None:
    if value > 0:  # 0 and -1 say "all" where chat endpoints know the field
        words["top_k"] = value


def _stop(value: str | list[str], words: Words) -> None:
    if value:
        words["stop_sequences"] = [value] if isinstance(value, str) else value


def _tools(value: list[Any], words: Words) -> None:
    if value:
        words["tools"] = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(value)]


def _tool(tool: Any, where: str) -> Words:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise unsayable(where, "is no function, and other tools of chat have no counterpart in Anthropic's API")
    said: Words = {"name": function.get("name")}
    if function.get("description") is not None:
        said["description"] = function["description"]
    said["input_schema"] = function.get("parameters") or _NO_PARAMETERS
    if function.get("strict"):
        said["strict"] = True
    for name in ("cache_control", "eager_input_streaming"):
        value = tool.get(name, function.get(name))
        if value is not None:
            said[name] = value
    return said


def _tool_choice(value: Any, words: Words) -> None:
    if isinstance(value, str) and value in _CHOICES:
        words["tool_choice"] = {"type": _CHOICES[value]}
        return
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict):
        raise unsayable("tool_choice", "names neither a function nor one of auto, required, none")
    words["tool_choice"] = {"type": "tool", "name": function.get("name")}


def _response_format(value: Words, words: Words) -> None:
    kind = value.get("type")
    if kind == "text":
        return
    form = value.get("json_schema")
    if kind != "json_schema" or not isinstance(form, dict) or not isinstance(form.get("schema"), dict):
        raise unsayable("response_format", "is only known to Anthropic as a 'json_schema' with a schema")
    schema = form["schema"]
    if form.get("description"):
        schema = {"description": form["description"]} | schema
    words.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def _effort(value: str, words: Words) -> None:
    if value == "none":
        words.setdefault("thinking", {"type": "disabled"})
    elif isinstance(value, str) and value in _EFFORTS:
        words.setdefault("output_config", {})["effort"] = _EFFORTS[value]
    else:
        raise unsayable("reasoning_effort", f"must be one of none, {', '.join(_EFFORTS)}")


def _user(value: str, words: Words) -> None:
    words["metadata"] = {"user_id": value}


def _service_tier(value: str, words: Words) -> None:
    if not isinstance(value, str) or value not in _TIERS:
        raise unsayable("service_tier", "is only known to Anthropic as 'auto' or 'default'")
    words["service_tier"] = _TIERS[value]


_TRANSLATORS: dict[str, Callable[[Any, Words], None]] = {
    "stream": _same("stream"),
    "temperature": _temperature,
    "top_p": _same("top_p"),
    "top_k": _top_k,
    "stop": _stop,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    "reasoning_effort": _effort,
    "thinking": _same("thinking"),
    "cache_control": _same("cache_control"),
    "user": _user,
    "service_tier": _service_tier,
}
