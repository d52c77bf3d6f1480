"""A chat request in the words of Gemini's generateContent.

Every field is translated, known to change nothing, or refused with its name: nothing is dropped in silence. What is
left out because it only labels a request or steers a vendor's own cache is listed in `_LABELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.wire.chat_request import ChatRequest
from gateway.wire.chat_turns_to_gemini import ContentWriter, unsayable

Words = dict[str, Any]

_LABELS = frozenset(
    {"user", "metadata", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "safety_identifier"}
    | {"cache_control"}
)
# Read elsewhere.
_ELSEWHERE = frozenset(
    {"model", "models", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools"}
    | {"tool_choice", "reasoning_effort", "thinking", "extra_body"}
)
# Values that ask for what Gemini does anyway.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "modalities": (["text"],),
    "store": (False,),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "functions": ([],),
    "function_call": ("none",),
    "parallel_tool_calls": (True,),
}
_SAME = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "n": "candidateCount",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH", "max": "HIGH"}
_MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}


def gemini_body(request: ChatRequest, wire_model: str) -> bytes:
    """The body for an endpoint of Google's; `UnsupportedCapability` or `InvalidRequest` name the field."""
    return msgspec.json.encode(gemini_of(request, wire_model))


def gemini_of(request: ChatRequest, wire_model: str) -> Words:
    """Likewise, as plain values."""
    given = {name: msgspec.json.decode(raw) for name, raw in request.fields.items() if bytes(raw) != b"null"}
    newer = thinks_by_level(wire_model)
    writer = ContentWriter(signed=newer)
    writer.read(given["messages"])
    words: Words = {"contents": writer.contents}
    if writer.system:
        words["systemInstruction"] = {"parts": writer.system}
    config: Words = {}
    for name, value in given.items():
        if name in _SAME:
            config[_SAME[name]] = value
        elif name in _TRANSLATORS:
            _TRANSLATORS[name](value, config)
        elif name not in _ELSEWHERE and name not in _LABELS and value not in _NEUTRAL.get(name, ()):
            raise unsayable(name)
    bounds = [bound for bound in (request.max_output_tokens, request.cap_tokens) if bound is not None]
    if bounds:
        config["maxOutputTokens"] = min(bounds)
    _details(writer.details, config)
    _tools(given, words)
    thinking = _thinking(given, newer, _wants_summary(request))
    _extras(given.get("extra_body"), words, thinking)
    if thinking:
        config["thinkingConfig"] = thinking
    if config:
        words["generationConfig"] = config
    return words


def thinks_by_level(wire_model: str) -> bool:
    """Whether a model has levels of thinking and signs its calls, as all have since Gemini 3."""
    return not wire_model.rpartition("/")[2].startswith(("gemini-1", "gemini-2"))


def _stop(value: str | list[str], config: Words) -> None:
    if value:
        config["stopSequences"] = [value] if isinstance(value, str) else value


def _top_k(value: int, config: Words) -> None:
    if value > 0:  # 0 and -1 say "all" where chat endpoints know the field
        config["topK"] = value


def _response_format(value: Words, config: Words) -> None:
    kind = value.get("type")
    if kind == "text":
        return
    if kind not in ("json_object", "json_schema"):
        raise unsayable("response_format", "must be of type text, json_object or json_schema")
    config["responseMimeType"] = "application/json"
    if kind == "json_object":
        return
    form = value.get("json_schema")
    if not isinstance(form, dict) or not isinstance(form.get("schema"), dict):
        raise InvalidRequest("'response_format.json_schema' must have a 'schema'.", param="response_format")
    described = {"description": form["description"]} if form.get("description") else {}
    config["responseJsonSchema"] = described | form["schema"]


_TRANSLATORS: dict[str, Callable[[Any, Words], None]] = {
    "stop": _stop,
    "top_k": _top_k,
    "response_format": _response_format,
}


def _details(details: set[str], config: Words) -> None:
    """How closely to look at images: Gemini has one wish for all of a request."""
    if len(details) > 1:
        raise unsayable("image_url.detail", "must be the same for all images here")
    if details & {"low", "high"}:
        config["mediaResolution"] = f"MEDIA_RESOLUTION_{details.pop().upper()}"


def _tools(given: Words, words: Words) -> None:
    tools = given.get("tools") or []
    declarations = [_declaration(tool, f"tools[{place}]") for place, tool in enumerate(tools)]
    if declarations:
        words["tools"] = [{"functionDeclarations": declarations}]
    choice = _calling(given.get("tool_choice"))
    if any(tool["function"].get("strict") for tool in tools) and choice.get("mode", "AUTO") == "AUTO":
        choice["mode"] = "VALIDATED"
    if declarations and choice:
        words["toolConfig"] = {"functionCallingConfig": choice}
    elif choice.get("mode") == "ANY":
        raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")


def _declaration(tool: Any, where: str) -> Words:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise unsayable(where, "is no function, and other tools of chat have no counterpart in Gemini's API")
    said: Words = {"name": function.get("name")}
    if function.get("description") is not None:
        said["description"] = function["description"]
    if function.get("parameters"):
        said["parametersJsonSchema"] = function["parameters"]
    return said


def _calling(choice: Any) -> Words:
    """Which functions may or must be called."""
    if choice is None:
        return {}
    if isinstance(choice, str) and choice in _MODES:
        return {"mode": _MODES[choice]}
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"mode": "ANY", "allowedFunctionNames": [_named(choice)]}
    allowed = choice.get("allowed_tools") if isinstance(choice, dict) else None
    if isinstance(allowed, dict) and isinstance(allowed.get("tools"), list):
        mode = "ANY" if allowed.get("mode") == "required" else "VALIDATED"
        return {"mode": mode, "allowedFunctionNames": [_named(tool) for tool in allowed["tools"]]}
    raise unsayable("tool_choice", "must be none, auto, required, a function, or allowed functions")


def _named(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("'tool_choice' must name functions.", param="tool_choice")
    return name


def _thinking(given: Words, newer: bool, summary: bool) -> Words:
    """How much to think: by level since Gemini 3, by a budget of tokens before, or where the request gives one."""
    effort, thinking = given.get("reasoning_effort"), given.get("thinking") or {}
    config: Words = {}
    if isinstance(thinking.get("budget_tokens"), int):
        config["thinkingBudget"] = thinking["budget_tokens"]
    elif thinking.get("type") == "disabled" or effort == "none":
        if newer:
            name = "reasoning_effort" if effort == "none" else "thinking"
            raise unsayable(name, "can't be switched off for this model; 'reasoning_effort': 'minimal' is the least")
        config["thinkingBudget"] = 0
    elif effort is not None:
        known: dict[str, Any] = _LEVELS if newer else _BUDGETS
        if effort not in known:
            raise unsayable("reasoning_effort", f"must be one of {', '.join(known)} for this model")
        config["thinkingLevel" if newer else "thinkingBudget"] = known[effort]
    if summary or (config and config.get("thinkingBudget") != 0) or thinking.get("type") == "adaptive":
        config["includeThoughts"] = True
    return config


def _wants_summary(request: ChatRequest) -> bool:
    """Whether a request that came as one of OpenAI's responses asks to see a summary of the reasoning."""
    original = request.original
    raw = original.fields.get("reasoning") if original is not None and original.dialect == "responses" else None
    asked = None if raw is None else msgspec.json.decode(raw)
    return isinstance(asked, dict) and bool(asked.get("summary") or asked.get("generate_summary"))


def _extras(extra_body: Any, words: Words, thinking: Words) -> None:
    """Google's own additions to the chat dialect, as its compatible endpoint takes them."""
    if extra_body is None:
        return
    google = extra_body.get("google") if isinstance(extra_body, dict) and extra_body.keys() == {"google"} else None
    if not isinstance(google, dict) or google.keys() - {"thinking_config", "cached_content"}:
        raise unsayable("extra_body", "takes 'google' with 'thinking_config' and 'cached_content' only")
    if google.get("cached_content") is not None:
        raise unsayable("extra_body.google.cached_content", "names the operator's own storage, which is not shared")
    asked = google.get("thinking_config") or {}
    names = {
        "thinking_budget": "thinkingBudget",
        "thinking_level": "thinkingLevel",
        "include_thoughts": "includeThoughts",
    }
    if not isinstance(asked, dict) or asked.keys() - names.keys():
        raise unsayable("extra_body.google.thinking_config", f"takes {', '.join(names)} only")
    if asked:
        thinking.clear()
        thinking |= {names[name]: value for name, value in asked.items()}
