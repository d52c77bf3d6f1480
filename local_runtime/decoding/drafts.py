"""Guesses of the next tokens from what a sequence has said before, for the model to check several in one step.

Prompt lookup: where the last tokens stood before, what followed then is guessed now. It costs nothing where nothing
repeats, and needs no second model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from local_runtime.decoding.base import History

# Repetitions that are looked up, in tokens, the longest first; and the longest that is told apart.
_SIZES: Final = (8, 4, 2)
_LONGEST: Final = 16
# How fast old outcomes are forgotten, and how many of them the first guess counts for.
_KEPT: Final = 0.9
_FIRST_WEIGHT: Final = 3.0
# Before there are outcomes, by the kinds of `_kind`.
_FIRST_ODDS: Final = (0.35, 0.5, 0.6, 0.7, 0.85)
_FURTHER_ODDS: Final = (0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True, slots=True)
class Odds:
    """That a first guess is right, and each further one when those before it are: a repetition that goes on goes on."""

    first: float
    further: float


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens, and how likely they are right; `kind` is for `Outcomes`, None: a draft model has written them."""

    tokens: Sequence[int]
    odds: Odds
    kind: int | None


class Share:
    """How often something came true, by recent outcomes."""

    def __init__(self, first: float) -> None:
        """`first`: what it is taken for before there are outcomes."""
        self._right = first * _FIRST_WEIGHT
        self._wrong = (1 - first) * _FIRST_WEIGHT

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self._right / (self._right + self._wrong)

    def add(self, right: int, wrong: int) -> None:
        """So often it came true, and so often not."""
        self._right = self._right * _KEPT + right
        self._wrong = self._wrong * _KEPT + wrong


class Outcomes:
    """How often guesses came true, by how long a repetition they continue."""

    def __init__(self) -> None:
        self._first = [Share(chance) for chance in _FIRST_ODDS]
        self._further = [Share(chance) for chance in _FURTHER_ODDS]

    def odds(self, kind: int) -> Odds:
        """Of the next guess."""
        return Odds(self._first[kind].value, self._further[kind].value)

    def add(self, kind: int, accepted: int, drafted: int) -> None:
        """So many of the guesses were right before the first wrong one."""
        self._first[kind].add(accepted > 0, accepted == 0)
        if accepted:
            self._further[kind].add(accepted - 1, accepted < drafted)


class PromptLookup:
    """Of one sequence, whose history it reads as it grows."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._tokens = list(history.prompt)
        self._seen: dict[tuple[int, ...], int] = {}
        self._known = 0
        self.outcomes = Outcomes()

    def draft(self, most: int) -> Draft | None:
        """Up to `most` tokens that may follow; None where the last ones stood nowhere before."""
        tokens = self._tokens
        said = len(tokens) - len(self._history.prompt)
        tokens += self._history.generated[said:]
        at = self._place()
        if at is None or most < 1:
            return None
        guess = self._following(at, most)
        kind = _kind(_repeated(tokens, at))
        return Draft(guess, self.outcomes.odds(kind), kind)

    def _place(self) -> int | None:
        """Where the last tokens ended before; what has come since the last call is noted at the same time."""
        tokens, seen = self._tokens, self._seen
        end = len(tokens)
        for stop in range(self._known + 1, end):
            for size in _SIZES:
                if stop >= size:
                    seen[tuple(tokens[stop - size : stop])] = stop
        self._known = max(self._known, end - 1)
        return next((seen[key] for size in _SIZES if (key := tuple(tokens[-size:])) in seen), None)

    def _following(self, at: int, most: int) -> list[int]:
        """What stood there; where it runs into the present, it goes round."""
        tokens = self._tokens
        period = len(tokens) - at
        return [tokens[at + i % period] for i in range(most)]


def _repeated(tokens: Sequence[int], at: int) -> int:
    """How many tokens before `at` are those at the end."""
    end, length = len(tokens), _SIZES[-1]
    while length < min(_LONGEST, at) and tokens[at - length - 1] == tokens[end - length - 1]:
        length += 1
    return length


def _kind(length: int) -> int:
    """2, 3, 4 to 7, 8 to 15, or 16 tokens."""
    return 0 if length < 3 else min(length.bit_length() - 1, 4) if length > 3 else 1
