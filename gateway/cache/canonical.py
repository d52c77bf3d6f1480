"""A chat request in the one form that all its spellings have: what was asked last, and everything else.

Two requests whose forms are equal may be told the same; whatever is not known to change nothing makes them differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from gateway.cache.beside import SAYS_NOTHING, beside_chat, decoded
from gateway.wire.chat_request import ChatRequest

Json = dict[str, Any]

# What a field means that is absent, as OpenAI's API has it: said or unsaid, the request is the same.
_DEFAULTS: Json = {
    "temperature": 1.0,
    "top_p": 1.0,
    "n": 1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "tools": [],
    "functions": [],
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "stop": [],
}
_REALS = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "min_p", "repetition_penalty"})
_WORDED_BY_PEOPLE = frozenset({"system", "developer", "user"})


@dataclass(frozen=True, slots=True)
class Canonical:
    """`texts` are the texts of the last user message, `rest` is all else as canonical JSON, with null for each text.

    Without texts (another role speaks last, or what came can't be read) `rest` is the whole request.
    """

    rest: bytes
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was asked, as it is embedded."""
        return "\n".join(self.texts)


def canonical(request: ChatRequest) -> Canonical:
    """The form of a request; never fails: what can't be taken apart stands in it as it came."""
    messages = decoded(request.fields["messages"])
    texts: list[str] = []
    if isinstance(messages, list):
        messages = [_message(one) for one in messages]
        if messages[-1]["role"] == "user":
            texts = _take_texts(messages[-1])
    whole = {"messages": messages, "fields": _fields(request.fields), "beside": beside_chat(request)}
    return Canonical(msgspec.json.encode(whole, order="deterministic"), tuple(texts))


def _fields(given: Mapping[str, Raw]) -> Json:
    """Top-level fields that may change the answer, none of which says what its absence says."""
    found: Json = {}
    for name, raw in given.items():
        if name in SAYS_NOTHING or name == "messages":
            continue
        value = _field(name, decoded(raw))
        if value is not None and (name not in _DEFAULTS or value != _DEFAULTS[name]):
            found[name] = value
    cap = found.get("max_completion_tokens")
    if cap is not None and found.get("max_tokens", cap) == cap:
        # Two names of one bound; both are kept where they differ, since the upstream decides which of them holds.
        found["max_tokens"] = found.pop("max_completion_tokens")
    if found.get("tool_choice") == ("auto" if "tools" in found else "none"):
        del found["tool_choice"]
    return found


def _field(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "stop":
        return [value] if isinstance(value, str) else sorted(set(value))
    if name == "tools" and isinstance(value, list):
        return _tools(value)
    if name == "response_format":
        return _with_order_of_properties(value)
    return float(value) if name in _REALS else value


def _tools(tools: list[Any]) -> list[Raw]:
    """In one order: which tools there are matters, not which stands first."""
    plain = [_without_marks(one) if isinstance(one, dict) else one for one in tools]
    return [Raw(one) for one in sorted(msgspec.json.encode(one, order="deterministic") for one in plain)]


def _with_order_of_properties(value: Any) -> Any:
    """A form of answers is written in the order of its schema's properties, so that their order counts here."""
    if isinstance(value, list):
        return [_with_order_of_properties(one) for one in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _with_order_of_properties(one) for name, one in value.items()}
    properties = inner.get("properties")
    return inner | {"properties": list(properties.items())} if isinstance(properties, dict) else inner


def _message(message: Json) -> Json:
    said = _without_marks(message)
    if said.get("tool_calls") == []:
        del said["tool_calls"]
    by_people = said["role"] in _WORDED_BY_PEOPLE
    content = said.get("content")
    if isinstance(content, list):
        content = [_part(one, by_people) for one in content]
        alone = content[0] if len(content) == 1 else {}
        said["content"] = alone["text"] if alone.keys() == {"type", "text"} and alone["type"] == "text" else content
    elif isinstance(content, str) and by_people:
        said["content"] = normal(content)
    return said


def _part(part: Json, by_people: bool) -> Json:
    said = _without_marks(part)
    if by_people and said.get("type") == "text" and "text" in said:
        said["text"] = normal(said["text"])
    return said


def _without_marks(value: Json) -> Json:
    """Without what says nothing: null, and marks for the vendor's prompt cache."""
    return {name: one for name, one in value.items() if one is not None and name != "cache_control"}


def _take_texts(message: Json) -> list[str]:
    """Put null for each text; no text can be null, so that nothing else reads like that."""
    content = message["content"]
    if isinstance(content, str):
        message["content"] = None
        return [content]
    parts = [part for part in content if part["type"] == "text" and "text" in part]
    texts = [part["text"] for part in parts]
    for part in parts:
        part["text"] = None
    return texts


# Anything that may have to be put straight: a blank that is no single space.
_UNTIDY = re.compile(r"\s\s|[^\S ]")
# Where blanks may mean something: indented lines, tabs, and whatever is quoted.
_MEANT = re.compile(r"\n[ \t]|\t|[\"`“”„«»]|(?<!\w)'|'(?!\w)")
_GAP = re.compile(r"\s{2,}|[^\S \n]")
# Longer texts are hardly typed twice in two ways, and putting them straight would take long: only their ends are.
_LONGEST_TIDIED = 16_384
_LEADING_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
# Folding these changes what is said: 10² is not 102, nor is 5½ 51/2.
_MEANINGFUL_FORMS = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")


def normal(text: str) -> str:
    """One form for the ways to write a text: NFKC, ends stripped, runs of blanks made one; case is kept.

    Left alone is what may mean something: superscripts, fractions and the like, and blanks in texts that are indented
    or quote. A run with line breaks in it becomes one, or two where it parts paragraphs.
    """
    if len(text) > _LONGEST_TIDIED:
        return text.strip()
    if not text.isascii():
        text = _folded(text)
    stripped = text.strip()
    if _UNTIDY.search(stripped) is None:
        return stripped
    if "\r" in stripped:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        stripped = text.strip()
    if _MEANT.search(stripped):
        return _LEADING_LINES.sub("", text.rstrip()) if "\n" in stripped else stripped
    return _GAP.sub(_one, stripped)


def _one(gap: re.Match[str]) -> str:
    return "\n" * min(gap.group().count("\n"), 2) or " "


def _folded(text: str) -> str:
    if unicodedata.is_normalized("NFKC", text):
        return text
    kept = "".join(filter(_is_meaningful_form, set(text)))
    if not kept:
        return unicodedata.normalize("NFKC", text)
    pieces = re.split(f"([{re.escape(kept)}]+)", text)
    return "".join(one if place % 2 else unicodedata.normalize("NFKC", one) for place, one in enumerate(pieces))


def _is_meaningful_form(character: str) -> bool:
    return not character.isascii() and unicodedata.decomposition(character).startswith(_MEANINGFUL_FORMS)
