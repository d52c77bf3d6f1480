"""From a generateContent body back to the chat request it was: what tests hold the translation against."""

from __future__ import annotations

import json
from typing import Any

from gateway.wire.chat_turns_to_gemini import FOREIGN_SIGNATURE

Words = dict[str, Any]

_CONFIG = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "candidateCount": "n",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
}
_MODES = {"NONE": "none", "AUTO": "auto", "ANY": "required"}


def chat_of(body: Words) -> Words:
    """All fields but `model`."""
    chat: Words = {"messages": _messages(body)}
    config = body.get("generationConfig", {})
    chat |= {_CONFIG[name]: value for name, value in config.items() if name in _CONFIG}
    if "responseJsonSchema" in config:
        chat["response_format"] = {"type": "json_schema", "json_schema": {"schema": config["responseJsonSchema"]}}
    elif "responseMimeType" in config:
        chat["response_format"] = {"type": "json_object"}
    if "thinkingConfig" in config:
        chat["reasoning_effort"] = config["thinkingConfig"]["thinkingLevel"].lower()
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    if "tools" in body:
        strict = calling.get("mode") == "VALIDATED" and "allowedFunctionNames" not in calling
        chat["tools"] = [_tool(one, strict) for one in body["tools"][0]["functionDeclarations"]]
    if calling and calling["mode"] != "VALIDATED":
        chat["tool_choice"] = _choice(calling)
    return chat


def _choice(calling: Words) -> Any:
    names = calling.get("allowedFunctionNames")
    return {"type": "function", "function": {"name": names[0]}} if names else _MODES[calling["mode"]]


def _tool(declaration: Words, strict: bool) -> Words:
    function = {"name": declaration["name"], "parameters": declaration["parametersJsonSchema"]}
    return {"type": "function", "function": function | ({"strict": True} if strict else {})}


def _messages(body: Words) -> list[Words]:
    messages: list[Words] = []
    if "systemInstruction" in body:
        messages.append({"role": "system", "content": _content(body["systemInstruction"]["parts"])})
    for content in body["contents"]:
        parts = content["parts"]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        messages += [_result(one) for one in results]
        if content["role"] == "model":
            messages.append(_answer(parts))
        elif not results:
            messages.append({"role": "user", "content": _content(parts)})
    return messages


def _result(response: Words) -> Words:
    said = response["response"]
    failed = {"is_error": True} if "error" in said else {}
    return {"role": "tool", "tool_call_id": response["id"], "content": said.get("output", said.get("error"))} | failed


def _answer(parts: list[Words]) -> Words:
    message: Words = {"role": "assistant"}
    texts = [part for part in parts if "text" in part]
    if texts:
        message["content"] = texts[0]["text"]
        message |= _extra(texts[0])
    calls = [part for part in parts if "functionCall" in part]
    if calls:
        message["tool_calls"] = [_call(part) for part in calls]
    return message


def _call(part: Words) -> Words:
    call = part["functionCall"]
    function = {"name": call["name"], "arguments": json.dumps(call["args"])}
    return {"id": call["id"], "type": "function", "function": function} | _extra(part)


def _extra(part: Words) -> Words:
    signature = part.get("thoughtSignature")
    if signature in (None, FOREIGN_SIGNATURE):
        return {}
    return {"extra_content": {"google": {"thought_signature": signature}}}


def _content(parts: list[Words]) -> Any:
    return parts[0]["text"] if len(parts) == 1 and "text" in parts[0] else [_part(part) for part in parts]


def _part(part: Words) -> Words:
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if "fileData" in part:
        return {"type": "image_url", "image_url": {"url": part["fileData"]["fileUri"]}}
    kind, data = part["inlineData"]["mimeType"], part["inlineData"]["data"]
    if kind.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": kind.removeprefix("audio/")}}
    url = f"data:{kind};base64,{data}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url}}
