"""The meter of OpenAI's older text completions: chat's, but for where the text stands."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway.dispatch.meters.chat import ChatMeter
from gateway.dispatch.meters.chat_wire import UNREADABLE, ChoiceReader
from gateway.dispatch.meters.spoken import Spoken
from policies.catalogue import ModelCard


class _Choice(Struct):
    index: int | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Answer(Struct):
    choices: list[_Choice] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class TextReader(ChoiceReader):
    """Draws the text from events or whole answers; keeps which choices have begun and not ended."""

    __slots__ = ()

    def text(self, payload: bytes) -> str:
        try:
            choices = _ANSWER.decode(payload).choices
        except UNREADABLE:
            return ""
        for choice in choices or ():
            (self.open.discard if choice.finish_reason else self.open.add)(choice.index or 0)
        return "".join(choice.text or "" for choice in choices or ())


class CompletionsMeter(ChatMeter):
    """See `Meter`."""

    __slots__ = ()

    def __init__(self, card: ModelCard, prompt_tokens: int, wants_usage: bool, at: float | None = None) -> None:
        super().__init__(card, prompt_tokens, wants_usage, at)
        self._choices = TextReader()
        self._spoken = Spoken(self._choices.text)

    @staticmethod
    def _ended_choice(index: int) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": "length"}


METER = CompletionsMeter
