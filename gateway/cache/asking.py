"""What is being asked just now and may be answered by likeness: a paraphrase waits for that instead of asking too.

Only who leads is found, so nobody waits for one who waits for another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from gateway.cache.base import Known
from gateway.cache.index import LikenessIndex
from gateway.cache.partition import Vector
from gateway.cache.semantic import Needed

# Nobody asks for longer than that.
_LIFETIME_S = 3600.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as the search by likeness sees it; `category` is the policy's, `topic` the verifier's."""

    tenant: str
    partition: str
    exact: str
    text: str
    category: str
    topic: str
    vector: Vector
    embedder: str


@dataclass(frozen=True, slots=True)
class Asks:
    """Somebody asks what certainly is the same, with this probability."""

    exact: str
    category: str
    topic: str
    probability: float


class Asking:
    """Of one worker. `finder` holds nothing else."""

    def __init__(self, finder: LikenessIndex, clock: Callable[[], float]) -> None:
        self._finder = finder
        self._clock = clock
        self._numbers = count()
        self._asked: dict[str, Question] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def begins(self, question: Question) -> Callable[[], None]:
        """It is found from now on, until what this gives back is called."""
        name = str(next(self._numbers))
        known = Known(
            name,
            question.tenant,
            question.partition,
            question.topic,
            question.text,
            question.vector,
            question.embedder,
            self._clock() + _LIFETIME_S,
        )
        self._asked[name] = question
        self._finder.added((known,))

        def ends() -> None:
            if self._asked.pop(name, None) is not None:
                self._finder.dropped(question.tenant, (name,))

        return ends

    def find(self, question: Question, needed: Needed) -> list[Asks]:
        """Who asks what certainly is the same in other words, the likeliest first. `needed` is told a topic."""
        if not self._asked:
            return []
        found = self._finder.find(
            question.tenant,
            question.partition,
            question.text,
            question.topic,
            question.vector,
            question.embedder,
            self._clock(),
            needed,
        )
        others = ((self._asked[match.key], match.probability) for match in found if match.key in self._asked)
        return [
            Asks(one.exact, one.category, one.topic, probability)
            for one, probability in others
            if one.exact != question.exact
        ]
