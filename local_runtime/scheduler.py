"""Continuous batching: which tokens of which sequences one step computes. Knows no threads and no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from local_runtime.base import Delta, GenerationError
from local_runtime.decoding.draft_model import DraftModel
from local_runtime.decoding.drafts import Draft
from local_runtime.decoding.filters import BadLogits
from local_runtime.decoding.guessing import Guesses
from local_runtime.decoding.pace import Adaptive, Pace
from local_runtime.fairness import FairQueue
from local_runtime.kv.pages import PAGE, Held, PagePool
from local_runtime.models.base import LanguageModel, Segment
from local_runtime.sequence import Sequence
from local_runtime.waits import Waits

PREFILL_CHUNK = 64
PREFILL_TOKENS_A_STEP = 128
MOST_GUESSES = 7
# Pages that are kept for what may come again, unless their number is given: 4,096 positions.
KEPT_PAGES = 256


Part = tuple[Sequence, Segment, Draft | None]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one sequence got from a step: a delta, or the error that ended it."""

    sequence: Sequence
    outcome: Delta | GenerationError


class Scheduler:
    """Waiting sequences enter in the order of `FairQueue` while there are pages for them; one step is one forward pass
    over all that run, at most `most` at once, the more urgent first. One that is less urgent gives its place up.

    Running sequences get one token each step; prompts are computed in chunks beside them, at most
    `PREFILL_TOKENS_A_STEP` tokens a step, so that a long prompt delays others by one chunk only. What the beginning of
    a prompt shares with earlier ones of its circle is not computed again. When pages run out, the last of the least
    urgent gives its own back and waits to be computed anew. Where the model is invariant, what a sequence seems to
    repeat, or `draft` writes, is guessed, and as many guesses are checked in a step as `pace` says.
    """

    def __init__(
        self,
        model: LanguageModel,
        most: int,
        pace: Pace | None = None,
        kept_pages: int = KEPT_PAGES,
        draft: DraftModel | None = None,
    ) -> None:
        self._model = model
        self._most = most
        self.pages = PagePool(model.page_count, kept_pages)
        # Where company changes the rounding, chunks keep their borders.
        self._step = PAGE if model.invariant else PREFILL_CHUNK
        self._pace = pace or Adaptive()
        self._guesses = Guesses(self._pace, MOST_GUESSES if model.invariant else 0, draft)
        self.guessed = 0
        self.guessed_right = 0
        self.waiting = FairQueue()
        self.waits = Waits()
        self.running: list[Sequence] = []
        self.steps = 0
        self.tokens_out = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; the next step with a free slot may take it in."""
        self.waiting.add(sequence)

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
        began = perf_counter()
        found = self._computed(batch)
        self._note([one for one, _ in found], perf_counter() - began)
        results: list[StepResult | None] = []
        for (sequence, segment, draft), rows in found:
            if isinstance(rows, GenerationError):
                self._leave(sequence)
                results.append(StepResult(sequence, rows))
            elif segment.logits:
                results.append(self._advance(sequence, segment, draft, rows))
            else:
                sequence.computed += len(segment.tokens)
                self._publish(sequence)
        return [result for result in results if result is not None]

    def expected_wait_s(self, arrived: int = 0) -> float:
        """Seconds until a prompt that comes now, behind `arrived` others, would be begun; from any thread."""
        now, running = perf_counter(), list(self.running)
        unread = sum(max(0, sequence.length - 1 - sequence.computed) for sequence in running)
        since = [now - sequence.entered for sequence in running]
        return self.waits.expected_s(self._most, since, unread, len(self.waiting) + arrived)

    def abandon(self) -> list[Sequence]:
        """Empty everything, as after a failed step or at the end; the sequences that were let go."""
        left = [*self.running, *self.waiting]
        for sequence in left:
            self._leave(sequence)
        return left

    def _drop_cancelled(self) -> None:
        for sequence in [sequence for sequence in (*self.running, *self.waiting) if sequence.cancelled]:
            self._leave(sequence)

    def _admit(self) -> None:
        """Let sequences in; one waits while another computes what both begin with."""
        while (sequence := self.waiting.first(lambda one: not self._is_being_computed(one))) is not None:
            if len(self.running) >= self._most and self.running[-1].priority >= sequence.priority:
                return
            held = self.pages.open(sequence.tokens(0, sequence.length), sequence.sharing, self._step)
            while len(self.running) >= self._most or not self.pages.grow(held, sequence.length):
                if not self.running or self.running[-1].priority >= sequence.priority:
                    self.pages.close(held)
                    return
                self._step_back()
            self._enter(sequence, held)

    def _enter(self, sequence: Sequence, held: Held) -> None:
        self.waiting.take(sequence)
        sequence.held, sequence.computed, sequence.entered = held, held.found, perf_counter()
        self.running.append(sequence)
        self.running.sort(key=lambda one: -one.priority)

    def _step_back(self) -> Sequence:
        """The last of the least urgent gives its place up, and waits."""
        last = self.running.pop()
        self._give_back(last)
        self.waiting.back(last)
        return last

    def _is_being_computed(self, sequence: Sequence) -> bool:
        """Whether waiting for a running prompt spares a chunk or more."""
        if not self._model.shares:
            return False
        for other in self.running:
            if other.prefilling and other.sharing == sequence.sharing:
                most = min(other.length, sequence.length - 1)
                pairs = zip(sequence.tokens(0, most), other.tokens(0, most), strict=True)
                alike = next((i for i, (one, two) in enumerate(pairs) if one != two), most)
                if alike - other.computed >= PREFILL_CHUNK:
                    return True
        return False

    def _leave(self, sequence: Sequence) -> None:
        if sequence.held is not None:
            self.running.remove(sequence)
            if sequence.finished:
                self.waits.answered(perf_counter() - sequence.entered)
        self._give_back(sequence)
        self.waiting.left(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        self._guesses.leave(sequence)
        if sequence.held is not None:
            self.pages.close(sequence.held)
        sequence.held, sequence.computed = None, 0

    def _grown(self, sequence: Sequence, positions: int) -> Held | None:
        """The sequence's pages, enough of them; others wait for it where there are not. None: it waits itself."""
        held = sequence.held
        while held is not None and not self.pages.grow(held, positions):
            if self._step_back() is sequence:
                return None
        return held

    def _batch(self) -> list[Part]:
        """One segment for every decoding sequence, and prompt chunks, oldest first, within the step's budget."""
        batch: list[Part] = []
        budget = PREFILL_TOKENS_A_STEP
        calm = not any(sequence.prefilling for sequence in self.running)
        drafts = self._guesses.drafts(self.running) if calm else {}
        for sequence in list(self.running):
            if sequence.held is None or (sequence.prefilling and budget < PREFILL_CHUNK):
                continue
            draft = drafts.get(sequence)
            guesses = draft.tokens if draft else ()
            tokens = [*sequence.next_tokens(PREFILL_CHUNK), *guesses]
            end = sequence.computed + len(tokens)
            held = self._grown(sequence, end)
            if held is None:
                break
            wanted = len(guesses) + 1 if end - len(guesses) == sequence.length else 0
            budget -= len(tokens) if sequence.prefilling else 0
            segment = Segment(held.table, sequence.computed, tokens, wanted, sequence.adapter)
            batch.append((sequence, segment, draft))
        return batch

    def _computed(self, batch: list[Part]) -> list[tuple[Part, Rows | GenerationError]]:
        """Each part with its logits. What can't be computed together (an expert's file is lost) is computed part by
        part without guesses, so that no sequence fails for another, or for a token that it will not say."""
        try:
            logits = self._model.forward([segment for _, segment, _ in batch])
        except GenerationError as error:
            alone = [_unguessed(part) for part in batch]
            if alone == batch and len(batch) == 1:
                return [(batch[0], error)]
            return [found for part in alone for found in self._computed([part])]
        ends = np.cumsum([segment.logits for _, segment, _ in batch])
        return list(zip(batch, np.split(logits, ends[:-1]), strict=True))

    def _note(self, batch: list[Part], seconds: float) -> None:
        """What a step has taken, and for whom."""
        self.steps += 1
        read, rows = 0, sum(len(segment.tokens) for _, segment, _ in batch)
        for sequence, segment, _ in batch:
            prompt = len(segment.tokens) if sequence.prefilling else 0
            self.waiting.charge(sequence, prompt, 0)
            read += prompt
        if not read:
            self._pace.took(rows, seconds)
        self.waits.step(read, rows, seconds)

    def _advance(self, sequence: Sequence, segment: Segment, draft: Draft | None, rows: Rows) -> StepResult | None:
        guesses = draft.tokens if draft else ()
        try:
            delta, picked = sequence.take(rows, guesses)
        except BadLogits as error:
            self._leave(sequence)
            return StepResult(sequence, error)
        sequence.computed += len(segment.tokens) - len(guesses) + picked - 1
        self.tokens_out += picked
        self.waiting.charge(sequence, 0, picked)
        if draft:
            right = picked - 1 if picked <= len(guesses) else len(guesses)
            self._guesses.learn(sequence, draft, right)
            self.guessed += len(guesses)
            self.guessed_right += right
        self._publish(sequence)
        if sequence.finished:
            self._leave(sequence)
        return None if delta is None else StepResult(sequence, delta)

    def _publish(self, sequence: Sequence) -> None:
        """Let others find what has been computed."""
        if not self._model.shares:
            return
        if sequence.held is not None and sequence.computed - sequence.held.found >= PAGE:
            self.pages.publish(sequence.held, sequence.tokens(0, sequence.computed), sequence.computed)


def _unguessed(part: Part) -> Part:
    sequence, segment, draft = part
    if draft is None:
        return part
    own = segment.tokens[: len(segment.tokens) - len(draft.tokens)]
    return sequence, replace(segment, tokens=own, logits=1), None
