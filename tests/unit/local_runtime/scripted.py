"""A LanguageModel whose answers a test writes; it keeps what a real one keeps and records what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Logits, Segment
from local_runtime.models.load import LoadedModel
from local_runtime.text.chat_template import ChatTemplate
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.tiny import CHATML, byte_tokenizer

END = 257
Answer = Callable[[list[int]], int]


def spells(text: str | bytes) -> Answer:
    """After a prompt of one token, answer `text` byte by byte, then end."""
    raw = text.encode() if isinstance(text, str) else text
    script = [*raw, END]
    return lambda seen: script[min(len(seen) - 1, len(raw))]


class ScriptedModel:
    """Says `answer(all tokens so far)` next. With `paced`, every step waits until the test lets one go."""

    vocab_size = 258
    page_count = 10_000
    layers: Sequence[int] = ()

    def __init__(self, answer: Answer, *, paced: bool = False, invariant: bool = False) -> None:
        self.answer = answer
        self.invariant = invariant
        self.shares = True
        self.calls: list[list[Segment]] = []
        self.entered = threading.Semaphore(0)
        self._paces = threading.Semaphore(0) if paced else None
        self._seen: dict[int, int] = {}  # the token at each place

    def use_threads(self, threads: int) -> None:
        self.threads = threads

    def let_go(self, steps: int = 1) -> None:
        """Allow so many more steps."""
        if self._paces is not None:
            self._paces.release(steps)

    def forward(self, segments: Sequence[Segment]) -> Logits:
        self.entered.release()
        if self._paces is not None:
            self._paces.acquire()
        self.calls.append(list(segments))
        return np.array([row for segment in segments for row in self._rows(segment)], dtype=np.float32)

    def _rows(self, segment: Segment) -> list[np.ndarray]:
        end = segment.start + len(segment.tokens)
        places = [segment.pages[at // PAGE] * PAGE + at % PAGE for at in range(end)]
        self._seen.update(zip(places[segment.start :], segment.tokens, strict=True))
        assert all(place in self._seen for place in places), "positions before a segment must have been computed"
        seen = [self._seen[place] for place in places]
        rows = []
        for end in range(len(seen) - segment.logits + 1, len(seen) + 1):
            row = np.zeros(self.vocab_size, dtype=np.float32)
            row[self.answer(seen[:end])] = 30.0
            rows.append(row)
        return rows


def scripted(model: ScriptedModel, context_tokens: int = 64) -> LoadedModel:
    """An engine's parts around a scripted model."""
    tokenizer = Tokenizer(byte_tokenizer(), {}, [END])
    return LoadedModel("scripted", model, tokenizer, ChatTemplate(CHATML, {}), context_tokens)
