"""Continuous batching: which tokens of which sequences one step computes. Knows no threads and no torch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from local_runtime.base import Delta, GenerationError
from local_runtime.decoding.filters import BadLogits
from local_runtime.kv.slots import SlotPool
from local_runtime.models.base import LanguageModel, Logits, Segment
from local_runtime.sequence import NO_SLOT, Sequence

PREFILL_CHUNK = 64
PREFILL_TOKENS_A_STEP = 128


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one sequence got from a step: a delta, or the error that ended it."""

    sequence: Sequence
    outcome: Delta | GenerationError


class Scheduler:
    """Waiting sequences enter free slots in order of arrival; one step is one forward pass over all that run.

    Running sequences get one token each step; prompts are computed in chunks beside them, at most
    `PREFILL_TOKENS_A_STEP` tokens a step, so that a long prompt delays others by one chunk only.
    """

    def __init__(self, model: LanguageModel, slots: int) -> None:
        self._model = model
        self._slots = SlotPool(slots)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.steps = 0
        self.tokens_out = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; the next step with a free slot takes it in."""
        self.waiting.append(sequence)

    @property
    def idle(self) -> bool:
        """Whether a step would find nothing to compute or to drop."""
        return not self.running and not self.waiting

    def step(self) -> list[StepResult]:
        """Drop what was cancelled, admit what fits, compute, pick tokens; results in no particular order."""
        self._drop_cancelled()
        self._admit()
        batch = self._batch()
        if not batch:
            return []
        logits = iter(self._model.forward([segment for _, segment in batch]))
        self.steps += 1
        results = []
        for sequence, segment in batch:
            sequence.computed += len(segment.tokens)
            if segment.logits:
                results.append(self._advance(sequence, next(logits)))
        return [result for result in results if result is not None]

    def abandon(self) -> list[Sequence]:
        """Empty everything, as after a failed step or at the end; the sequences that were let go."""
        left = [*self.running, *self.waiting]
        self.waiting.clear()
        for sequence in list(self.running):
            self._leave(sequence)
        return left

    def _drop_cancelled(self) -> None:
        for sequence in [sequence for sequence in self.running if sequence.cancelled]:
            self._leave(sequence)
        if any(sequence.cancelled for sequence in self.waiting):
            self.waiting = deque(sequence for sequence in self.waiting if not sequence.cancelled)

    def _admit(self) -> None:
        while self.waiting and self._slots.can_acquire():
            sequence = self.waiting.popleft()
            sequence.slot = self._slots.acquire()
            self.running.append(sequence)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._slots.release(sequence.slot)
        sequence.slot = NO_SLOT

    def _batch(self) -> list[tuple[Sequence, Segment]]:
        """One segment for every decoding sequence, and prompt chunks, oldest first, within the step's budget."""
        batch, budget = [], PREFILL_TOKENS_A_STEP
        for sequence in self.running:
            if sequence.prefilling and budget < PREFILL_CHUNK:
                continue
            segment = _segment(sequence)
            budget -= len(segment.tokens) if sequence.prefilling else 0
            batch.append((sequence, segment))
        return batch

    def _advance(self, sequence: Sequence, row: Logits) -> StepResult | None:
        try:
            delta = sequence.take(row)
        except BadLogits as error:
            self._leave(sequence)
            return StepResult(sequence, error)
        self.tokens_out += 1
        if sequence.finished:
            self._leave(sequence)
        return None if delta is None else StepResult(sequence, delta)


def _segment(sequence: Sequence) -> Segment:
    tokens = sequence.next_tokens(PREFILL_CHUNK)
    last = sequence.computed + len(tokens) >= len(sequence.history.prompt)
    return Segment(sequence.slot, sequence.computed, tokens, logits=int(last))
