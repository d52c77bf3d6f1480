"""The messages of a chat request as Gemini's system instruction and contents; knows no other field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from gateway.errors import InvalidRequest, UnsupportedCapability

Words = dict[str, Any]

# What Gemini 3 takes in place of the signature of a call that another model made.
FOREIGN_SIGNATURE = "skip_thought_signature_validator"
_DATA_URL = re.compile(r"data:(?P<kind>[\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,(?P<data>.*)", re.DOTALL)
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mp3", "flac": "audio/flac", "ogg": "audio/ogg", "aac": "audio/aac"}
# What answers carry that is no part of what was said, or another vendor's to read: clients send it back as it came.
_ECHOES = frozenset(
    {"id", "annotations", "reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "cache_control"}
)
_KNOWN = frozenset({"role", "content", *_ECHOES})
_KNOWN_BY_ROLE = {
    "assistant": _KNOWN | {"tool_calls", "refusal", "extra_content"},
    "tool": _KNOWN | {"tool_call_id", "is_error", "name"},
}
_ARGUMENTS = msgspec.json.Decoder(dict[str, Raw])


def unsayable(name: str, why: str = "has no counterpart in Gemini's API") -> UnsupportedCapability:
    """The refusal that names a field."""
    return UnsupportedCapability(f"'{name}' {why}.", param=name)


class ContentWriter:
    """Turns messages into contents. `signed` says whether the model wants a signature on the calls of a turn;
    `details` collects how closely images are to be looked at."""

    def __init__(self, signed: bool) -> None:
        self.system: list[Words] = []
        self.contents: list[Words] = []
        self.details: set[str] = set()
        self._signed = signed
        self._names: dict[str, str] = {}

    def read(self, messages: Iterable[Words]) -> None:
        """System and developer messages are drawn to the front, neighbours of one role merged."""
        for place, message in enumerate(messages):
            where, role = f"messages[{place}]", message["role"]
            for name, value in message.items():
                if value and name not in _KNOWN_BY_ROLE.get(role, _KNOWN):
                    raise unsayable(f"{where}.{name}")
            if role in ("system", "developer"):
                self.system += self._parts(message.get("content"), where, texts_only=True)
            elif role == "user":
                self._add("user", self._parts(message.get("content"), where))
            elif role == "assistant":
                self._add("model", self._answer(message, where))
            elif role == "tool":
                self._add("user", [self._result(message, where)])
            else:
                raise unsayable(f"{where}.role", f"'{role}' has no counterpart in Gemini's API; use 'tool'")

    def _add(self, role: str, parts: list[Words]) -> None:
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"] += parts
        elif parts:
            self.contents.append({"role": role, "parts": parts})

    def _answer(self, message: Words, where: str) -> list[Words]:
        parts = self._parts(message.get("content"), where, texts_only=True)
        if message.get("refusal"):
            parts.append({"text": message["refusal"]})
        if (signature := signature_of(message)) is not None:
            if not parts:
                parts.append({"text": ""})
            parts[-1]["thoughtSignature"] = signature
        calls = [
            self._call(call, f"{where}.tool_calls[{place}]")
            for place, call in enumerate(message.get("tool_calls") or ())
        ]
        if calls and self._signed:
            calls[0].setdefault("thoughtSignature", FOREIGN_SIGNATURE)
        return parts + calls

    def _call(self, call: Any, where: str) -> Words:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or call.get("type", "function") != "function":
            raise unsayable(where, "is no function call, and Gemini's API knows no other")
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not isinstance(call.get("id"), str):
            raise InvalidRequest(f"'{where}' must have an 'id' and a 'function.name'.", param=where)
        self._names[call["id"]] = name
        part: Words = {"functionCall": {"id": call["id"], "name": name, "args": _arguments(arguments, where)}}
        if (signature := signature_of(call)) is not None:
            part["thoughtSignature"] = signature
        return part

    def _result(self, message: Words, where: str) -> Words:
        called = message["tool_call_id"]
        name = self._names.get(called) or message.get("name")
        if not name:
            raise InvalidRequest(
                f"'{where}.tool_call_id' names no call of an earlier message.", param=f"{where}.tool_call_id"
            )
        parts = self._parts(message.get("content"), where)
        text = "\n".join(part["text"] for part in parts if "text" in part)
        said: Words = {"id": called, "name": name}
        said["response"] = {"error" if message.get("is_error") else "output": text}
        shown = [part for part in parts if "text" not in part]
        if any("inlineData" not in part for part in shown) or (shown and not self._signed):
            raise unsayable(f"{where}.content", "can hold texts, and for newer models images as data URLs, only")
        return {"functionResponse": said | ({"parts": shown} if shown else {})}

    def _parts(self, content: Any, where: str, texts_only: bool = False) -> list[Words]:
        """Content as parts. Empty texts, which Gemini refuses and which say nothing, stay out where they can."""
        if content is None or isinstance(content, str):
            return [{"text": content}] if content or (content is not None and not texts_only) else []
        found = [self._part(part, f"{where}.content[{place}]", texts_only) for place, part in enumerate(content)]
        return [part for part in found if part.get("text") != ""]

    def _part(self, part: Words, where: str, texts_only: bool) -> Words:
        kind = part.get("type")
        if kind in ("text", "refusal"):
            return {"text": part.get(kind) or ""}
        if not texts_only and kind == "image_url":
            return self._image(part.get("image_url"), f"{where}.image_url")
        if not texts_only and kind == "input_audio":
            return _sound(part.get("input_audio"), f"{where}.input_audio")
        if not texts_only and kind == "file":
            return _file(part.get("file"), f"{where}.file")
        raise unsayable(where, f"is of type '{str(kind)[:40]}', which has no counterpart in Gemini's API here")

    def _image(self, given: Any, where: str) -> Words:
        image = {"url": given} if isinstance(given, str) else given
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise InvalidRequest(f"'{where}.url' must be a text.", param=f"{where}.url")
        detail = image.get("detail") or "auto"
        if detail not in ("auto", "low", "high"):
            raise unsayable(f"{where}.detail", "must be auto, low or high")
        self.details.add(detail)
        url = image["url"]
        return _inline(url, f"{where}.url") if url.startswith("data:") else {"fileData": {"fileUri": url}}


def signature_of(carrier: Words) -> str | None:
    """The thought signature that a message or a call brought along, where Google's own chat dialect keeps it."""
    extra = carrier.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) and found else None


def _arguments(given: Any, where: str) -> dict[str, Raw]:
    try:
        return _ARGUMENTS.decode(given or "{}")
    except (msgspec.DecodeError, TypeError, RecursionError):
        where = f"{where}.function.arguments"
        raise InvalidRequest(f"'{where}' must be a JSON object.", param=where) from None


def _inline(url: str, where: str) -> Words:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise InvalidRequest(f"'{where}' must be 'data:<media type>;base64,<data>'.", param=where)
    return {"inlineData": {"mimeType": found["kind"], "data": found["data"]}}


def _sound(given: Any, where: str) -> Words:
    if not isinstance(given, dict) or not isinstance(given.get("data"), str) or given.get("format") not in _AUDIO:
        raise unsayable(where, f"must have 'data' and one of the formats {', '.join(_AUDIO)}")
    return {"inlineData": {"mimeType": _AUDIO[given["format"]], "data": given["data"]}}


def _file(given: Any, where: str) -> Words:
    if isinstance(given, dict) and isinstance(given.get("file_data"), str):
        return _inline(given["file_data"], f"{where}.file_data")
    named = given.get("file_id") if isinstance(given, dict) else None
    if isinstance(named, str) and named.startswith("https://"):
        return {"fileData": {"fileUri": named}}
    raise unsayable(where, "can only be sent to Gemini with 'file_data', or with the URI of a file as 'file_id'")
