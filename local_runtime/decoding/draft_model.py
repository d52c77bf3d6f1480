"""Guesses of the next tokens that a second, smaller model with the same vocabulary writes (arXiv:2211.17192).

It writes one after the other, for all sequences at once, and stops where its own probability says that a rejection is
likelier than worth it (SpecDec++, arXiv:2405.19715), by what its steps and the main model's have taken.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from local_runtime.decoding.base import Row
from local_runtime.decoding.drafts import Draft, Odds, Share
from local_runtime.decoding.pace import Pace, StepPlan
from local_runtime.kv.pages import PAGE, Held, PagePool
from local_runtime.models.base import LanguageModel, Logits, Segment

if TYPE_CHECKING:
    from local_runtime.sequence import Sequence

# Tokens of prompts that it reads before a step at most, so that nobody waits for it long.
READ_A_STEP: Final = 64
# So many new tokens are read together with writing the first guess.
_FEW: Final = 8
# Pages that are kept for what may come again, unless their number is given.
_KEPT_PAGES: Final = 256
# Borders between probabilities that are told apart, and how often each is taken to come true at first.
_BORDERS: Final = (0.2, 0.4, 0.6, 0.8, 0.95)
_FIRST_SHARES: Final = (0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
_FIRST_SHARE: Final = 0.7
# Where it does not seem to pay, every so many-th sequence with a short prompt has so many guesses all the same.
_TRIAL_EVERY: Final = 16
_TRIAL_STEPS: Final = 8
_TRIAL_UNREAD: Final = 256


@dataclass(eq=False, slots=True)
class _Reading:
    """Of one sequence: `computed` positions have keys and values, the last of them those of `fed`, which are guesses
    behind `known` tokens. `probabilities` are those of the guesses that were last handed out."""

    came_true: Share
    trials: int
    held: Held | None = None
    computed: int = 0
    known: int = 0
    fed: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)

    def forget_wrong(self, sequence: Sequence) -> None:
        """Only guesses that came true stay computed."""
        said = sequence.tokens(self.known, min(sequence.length, self.known + len(self.fed)))
        pairs = zip(said, self.fed, strict=False)
        right = next((i for i, (one, other) in enumerate(pairs) if one != other), len(said))
        self.computed -= len(self.fed) - right
        self.fed, self.known = [], sequence.length


@dataclass(eq=False, slots=True)
class _Writing:
    """The guesses of one sequence as they come, at most `most`; `chance` is that of all of them together."""

    sequence: Sequence
    reading: _Reading
    held: Held
    most: int
    tokens: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    chance: float = 1.0

    def unread(self) -> Segment:
        """What is known and has not been computed."""
        start, end = self.reading.computed, self.sequence.length
        self.reading.computed = end
        return Segment(self.held.table, start, self.sequence.tokens(start, end), 1)

    def last(self) -> Segment:
        """The last guess, to go on from."""
        start = self.reading.computed
        self.reading.computed += 1
        self.reading.fed.append(self.tokens[-1])
        return Segment(self.held.table, start, self.tokens[-1:], 1)

    def keeps(self, token: int, probability: float, chance: float, plan: StepPlan) -> bool:
        """Take a guess in where it is worth its row."""
        if not plan.pays(self.chance * chance, plan.costs.row):
            return False
        self.chance *= chance
        plan.add(self.chance, plan.costs.row)
        self.tokens.append(token)
        self.probabilities.append(probability)
        return True

    def goes_on(self, plan: StepPlan, sequences: int) -> bool:
        """Whether another guess, beside those of others, is worth writing and checking."""
        chance = self.chance * self.reading.came_true.value
        return len(self.tokens) < self.most and plan.pays(chance, plan.costs.guess(sequences))


class DraftModel:
    """A draft model with what it has read of each sequence, in pages of its own.

    `vocab_size` is the main model's; nothing is guessed beyond `context_tokens`, which are the draft's.
    """

    def __init__(
        self, model: LanguageModel, vocab_size: int, context_tokens: int, kept_pages: int = _KEPT_PAGES
    ) -> None:
        self._model = model
        self._vocab_size = min(vocab_size, model.vocab_size)
        self._context_tokens = context_tokens
        self.pages = PagePool(model.page_count, kept_pages)
        self._readings: dict[Sequence, _Reading] = {}
        self._came_true = Share(_FIRST_SHARE)
        self._by_probability = [Share(first) for first in _FIRST_SHARES]
        self._seen = 0

    def use_threads(self, threads: int) -> None:
        """See LanguageModel."""
        self._model.use_threads(threads)

    def odds(self, sequence: Sequence) -> Odds:
        """Of the next guesses, by how often those before came true."""
        share = self._reading(sequence).came_true.value
        return Odds(share, share)

    def on_trial(self, sequence: Sequence) -> bool:
        """Whether to write guesses even where it does not seem to pay: times and texts change."""
        reading = self._reading(sequence)
        if reading.trials <= 0 or sequence.length - reading.computed > _TRIAL_UNREAD:
            return False
        reading.trials -= 1
        return True

    def drafts(self, asked: Mapping[Sequence, int], plan: StepPlan, pace: Pace) -> dict[Sequence, Draft]:
        """Guesses for sequences, at most so many each, as long as they make the plan's rate higher.

        None for those whose prompt has not been read to the end, and for those that there are no pages for.
        """
        writing = self._ready(asked)
        going, parts = writing, [one.unread() for one in writing]
        while going:
            plan.add(0.0, plan.costs.draft_step(len(going)))
            logits = self._step(parts, pace)
            kept = [one for one, row in zip(going, logits, strict=True) if one.keeps(*self._guess(row), plan)]
            going = [one for one in kept if one.goes_on(plan, len(kept))]
            parts = [one.last() for one in going]
        return {one.sequence: self._draft(one) for one in writing if one.tokens}

    def learn(self, sequence: Sequence, right: int, drafted: int) -> None:
        """So many of the guesses were right before the first wrong one."""
        reading = self._reading(sequence)
        for i, probability in enumerate(reading.probabilities[: min(right + 1, drafted)]):
            self._by_probability[bisect(_BORDERS, probability)].add(i < right, i >= right)
        for share in (reading.came_true, self._came_true):
            share.add(right, right < drafted)

    def leave(self, sequence: Sequence) -> None:
        """Give the sequence's pages back."""
        reading = self._readings.pop(sequence, None)
        if reading is not None and reading.held is not None:
            self.pages.close(reading.held)

    def _reading(self, sequence: Sequence) -> _Reading:
        reading = self._readings.get(sequence)
        if reading is None:
            trials = 0 if self._seen % _TRIAL_EVERY else _TRIAL_STEPS
            reading = self._readings[sequence] = _Reading(Share(self._came_true.value), trials)
            self._seen += 1
        return reading

    def _ready(self, asked: Mapping[Sequence, int]) -> list[_Writing]:
        """Those of which few tokens are left to read, after a part of the others' has been read."""
        ready, parts, budget = [], list[Segment](), READ_A_STEP
        for sequence, most in asked.items():
            reading = self._reading(sequence)
            held = self._opened(sequence, reading, most)
            if held is None:
                continue
            take = min(budget, sequence.length - reading.computed - 1)
            if take >= _FEW:
                end = reading.computed + take
                parts.append(Segment(held.table, reading.computed, sequence.tokens(reading.computed, end)))
                reading.computed, budget = end, budget - take
            if sequence.length - reading.computed <= _FEW:
                ready.append(_Writing(sequence, reading, held, most))
        if parts:
            self._model.forward(parts)
        return ready

    def _opened(self, sequence: Sequence, reading: _Reading, most: int) -> Held | None:
        """The sequence's pages with room for guesses, those forgotten that did not come true; None without room."""
        if sequence.length + most > self._context_tokens:
            return None
        if reading.held is None:
            reading.held = self.pages.open(sequence.tokens(0, sequence.length), sequence.circle)
            reading.computed = reading.held.found
        reading.forget_wrong(sequence)
        if self._model.shares and reading.computed - reading.held.found >= PAGE:
            self.pages.publish(reading.held, sequence.tokens(0, reading.computed), reading.computed)
        return reading.held if self.pages.grow(reading.held, sequence.length + most) else None

    def _step(self, parts: list[Segment], pace: Pace) -> Logits:
        began = perf_counter()
        logits = self._model.forward(parts)
        pace.drafted(sum(len(part.tokens) for part in parts), perf_counter() - began)
        return logits

    def _guess(self, row: Row) -> tuple[int, float, float]:
        """The likeliest token, its probability, and how often such ones came true."""
        row = row[: self._vocab_size]
        token = int(row.argmax())
        probability = 1 / float(np.exp(row - row[token]).sum())
        return token, probability, self._by_probability[bisect(_BORDERS, probability)].value

    def _draft(self, one: _Writing) -> Draft:
        one.reading.probabilities = one.probabilities
        return Draft(one.tokens, self.odds(one.sequence), None)
