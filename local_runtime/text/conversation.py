"""A conversation to prompt ids: what somebody writes inside a message never becomes a control token.

Without this an end user could write the end of a turn into a message and forge the next speaker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_runtime.text.chat_template import ChatTemplate, plain_message
from local_runtime.text.tokenizer import Tokenizer

# Two characters for private use stand in the rendered text around the number of what was taken out.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_PLACE = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Conversation:
    """Renders and encodes messages; text without control tokens is encoded exactly as Hugging Face does."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template = template
        self._tokenizer = tokenizer
        dangerous = [*tokenizer.control_texts, _OPEN, _CLOSE]
        self._dangerous = re.compile("|".join(map(re.escape, sorted(dangerous, key=len, reverse=True))))

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Prompt ids, ready for the answer; raises as `ChatTemplate.render` does."""
        taken: list[str] = []
        plain = [plain_message(place, message) for place, message in enumerate(messages)]
        text = self._template.render([self._disarmed(message, taken) for message in plain])
        if not taken:
            return self._tokenizer.encode(text)
        ids: list[int] = []
        for turn, piece in enumerate(_PLACE.split(text)):
            ids += self._tokenizer.encode_plain(taken[int(piece)]) if turn % 2 else self._tokenizer.encode(piece)
        return ids

    def _disarmed(self, message: dict[str, Any], taken: list[str]) -> dict[str, Any]:
        def take(found: re.Match[str]) -> str:
            taken.append(found.group())
            return f"{_OPEN}{len(taken) - 1}{_CLOSE}"

        return {**message, "content": self._dangerous.sub(take, message["content"])}
