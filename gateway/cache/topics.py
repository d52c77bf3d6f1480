"""What the verifier takes a question for, and how sure it must be of an answer at a share of wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.cache.classes import Classes
from gateway.cache.config import read, read_served
from gateway.cache.index import LikenessIndex
from gateway.cache.partition import Vector
from gateway.cache.replay import judge_of
from gateway.cache.semantic import ELSE, Thresholds
from gateway.cache.verifier import Verifier

Classify = Callable[[Vector, str], str]


def likeness(path: Path) -> tuple[LikenessIndex, Topics]:
    """What finds entries by likeness, and how sure it must be, by the configuration at `path`; `ValueError` where that
    can't be read."""
    model, _ = read(path)
    verifier = Verifier(model)
    served = read_served(path)
    classify = Classes(served[0]).topic if served is not None else _anything
    return LikenessIndex(judge_of(verifier), verifier.parse), Topics(classify, served[1] if served is not None else ())


def _anything(_vector: Vector, _text: str) -> str:
    return ELSE


class Topics:
    """`settings` are thresholds by the share of wrong hits that they are certified for."""

    def __init__(self, classify: Classify, settings: Sequence[tuple[float, Thresholds]]) -> None:
        self.of = classify
        self._settings = sorted(settings, key=lambda one: one[0], reverse=True)

    def needed(self, asked: str, cached: str, share: float) -> float | None:
        """The probability at which an answer may be given: that of the loosest setting that is certified for the share;
        None: not at all. Of two topics the stricter counts."""
        for certified, thresholds in self._settings:
            if certified <= share:
                return thresholds.of(asked, cached)
        return None
