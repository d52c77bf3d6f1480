"""What the verifier takes a question for, and how sure it must be of an answer at a share of wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path

from gateway.cache.classes import Classes
from gateway.cache.config import calibration_of, read, read_served
from gateway.cache.index import LikenessIndex
from gateway.cache.parsed import Parsed
from gateway.cache.partition import Vector
from gateway.cache.replay import judge_of
from gateway.cache.semantic import ELSE, Candidate, Entry, Judge, Thresholds
from gateway.cache.verifier import Doubles, Verifier

Classify = Callable[[Vector, str], str]


Settings = Sequence[tuple[float, Thresholds]]


def likeness(path: Path) -> tuple[LikenessIndex, Topics]:
    """What finds entries by likeness, and how sure it must be, by the configuration at `path`.

    It is read at first need: most gateways answer exact repeats only, and it takes memory. `ValueError` then.
    """
    learned = _Learned(path)
    topics = Topics(learned.classify, learned.settings, learned.identify)
    return LikenessIndex(learned.judge, learned.parse), topics


class _Learned:
    """The parts of a configuration, each read once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def judge(self, query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> Doubles:
        """See `Judge`."""
        return self._judge(query, candidates, cosines)

    def parse(self, text: str) -> Parsed:
        """A text's evidence."""
        return self._verifier.parse(text)

    def classify(self, vector: Vector, text: str) -> str:
        """What a question is about."""
        return self._served[0](vector, text)

    def settings(self) -> Settings:
        """Thresholds by the share that they are certified for."""
        return self._served[1]

    def identify(self) -> str:
        """Which configuration it is."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return calibration_of(self._path)

    @cached_property
    def _verifier(self) -> Verifier:
        return Verifier(read(self._path)[0])

    @cached_property
    def _judge(self) -> Judge:
        return judge_of(self._verifier)

    @cached_property
    def _served(self) -> tuple[Classify, Settings]:
        found = read_served(self._path)
        return (_anything, ()) if found is None else (Classes(found[0]).topic, found[1])


def _none_closed(_topic: str) -> Collection[float]:
    return ()


def _anything(_vector: Vector, _text: str) -> str:
    return ELSE


class Topics:
    """`settings` gives thresholds by the share of wrong hits that they are certified for; `identify` tells one
    configuration from another."""

    def __init__(
        self, classify: Classify, settings: Callable[[], Settings], identify: Callable[[], str] = lambda: ""
    ) -> None:
        self.of = classify
        self._settings = settings
        self._identify = identify

    @property
    def calibration(self) -> str:
        """What the settings were found by."""
        return self._identify()

    def setting(self, topic: str, share: float, closed: Collection[float] = ()) -> float | None:
        """The loosest share up to this one that thresholds for the topic are certified for, and that is not closed."""
        found = self._loosest(share, closed)
        return None if found is None or found[1].of(topic, topic) is None else found[0]

    def needed(
        self, asked: str, cached: str, share: float, closed: Callable[[str], Collection[float]] = _none_closed
    ) -> float | None:
        """The probability at which an answer may be given: that of the loosest setting that is certified for the share
        and not `closed` for the topic; None: not at all. Of two topics the stricter counts."""
        ours = self._of(asked, share, closed(asked))
        theirs = ours if cached == asked else self._of(cached, share, closed(cached))
        return None if ours is None or theirs is None else max(ours, theirs)

    def _of(self, topic: str, share: float, closed: Collection[float]) -> float | None:
        found = self._loosest(share, closed)
        return None if found is None else found[1].of(topic, topic)

    def _loosest(self, share: float, closed: Collection[float]) -> tuple[float, Thresholds] | None:
        certified = [one for one in self._settings() if one[0] <= share and one[0] not in closed]
        return max(certified, key=lambda one: one[0]) if certified else None
