"""The experts of a model as its layers see them: wanted, there, computed, and gone again. Called from one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt

from local_runtime.base import GenerationError
from local_runtime.experts.cache import ExpertCache
from local_runtime.experts.errors import BudgetTooSmall
from local_runtime.experts.layout import Key
from local_runtime.experts.loader import Loader
from local_runtime.experts.memory import Slots
from local_runtime.experts.policies import NextUse, Policy
from local_runtime.experts.predict import Best, Predictor
from local_runtime.experts.store import ExpertStore

# For how many coming layers experts are fetched before they are wanted.
AHEAD: Final = 2
READERS: Final = 4
# What is less likely is not fetched before it is wanted: the disk would be busy when something is.
_LIKELY: Final = 0.5


@dataclass(slots=True)
class Stats:
    """Since the pool was made. An expert that a layer wants is a hit when it is there, late when it is on its way."""

    hits: int = 0
    late: int = 0
    misses: int = 0
    read_bytes: int = 0
    ahead_bytes: int = 0
    ahead_used: int = 0
    ahead_wasted: int = 0
    waited_s: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Of all that was wanted, what was there or on its way."""
        wanted = self.hits + self.late + self.misses
        return (self.hits + self.late) / wanted if wanted else 0.0

    def minus(self, before: Stats) -> Stats:
        """What has come since."""
        return Stats(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(self)))


class ExpertPool:
    """`budget` bytes for experts, of which the first `planes` are read (None: all).

    `most` is how many a single row of a layer may want: BudgetTooSmall where those do not fit.
    """

    def __init__(
        self,
        store: ExpertStore,
        budget: int,
        most: int,
        *,
        planes: int | None = None,
        policy: Callable[[int, int], Policy] = NextUse,
        predictor: Predictor | None = None,
        prefetch: bool = True,
        readers: int = READERS,
    ) -> None:
        layout = store.layout
        rows, experts = len(layout.layers), layout.experts
        self._layout = layout
        self._places = [layout.place(plane) for plane in range(planes or len(layout.planes))]
        size = layout.place(len(self._places))
        if budget < most * size:
            raise BudgetTooSmall(
                f"{budget >> 20} MiB for experts hold {budget // size} of {experts}, of which a token wants {most}: "
                f"at least {-(-most * size >> 20)} MiB are needed"
            )
        room = min(budget // size, rows * experts)
        self._slots = Slots(size, room)
        self._cache = ExpertCache(layout, room, policy(rows, experts))
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        self._predictor = predictor or Best(rows, experts, AHEAD)
        self._ahead = AHEAD if prefetch else 0
        self._loader = Loader(store, readers)
        self._wanted: set[Key] = set()  # pinned
        self._early: set[Key] = set()  # fetched before they were wanted, and not wanted yet
        self._on_the_way = 0
        self.stats = Stats()

    def address(self, layer: int, expert: int) -> list[int]:
        """Where the planes of an expert lie that `want` has yielded."""
        begin = self._slots.address((layer, expert))
        return [begin + place for place in self._places]

    @property
    def resident_bytes(self) -> int:
        """What experts take now, those on their way among them."""
        return self._cache.used * self._slots.size

    def want(self, layer: int, rows: Mapping[int, int]) -> Iterator[list[int]]:
        """Experts that a layer wants, with how many rows want each: as they are there, until all have been.

        Those that most rows want are read first. ExpertLost where one can't be read; the others are not affected.
        """
        self._withdraw(lambda key: key[0] == layer and key[1] not in rows)
        self._cache.visited(layer, np.fromiter(rows, dtype=np.intp))
        self._collect(wait=False)
        for expert in rows:
            self._count((layer, expert))
            if self._cache.ready((layer, expert)):
                self._pin((layer, expert))
        left = dict(rows)
        self._ask_for(layer, left)
        return self._arriving(layer, left)

    def saw(self, layer: int, used: npt.NDArray[np.int32], foreseen: Mapping[int, npt.NDArray[np.float32]]) -> None:
        """The routes of a layer [rows, active], -1 where a row wants fewer, and what routers of coming layers say."""
        row = self._row[layer]
        self._predictor.saw(row, np.unique(used[used >= 0]).astype(np.intp))
        for later, probabilities in foreseen.items():
            self._predictor.told(self._row[later], self._row[later] - row, probabilities)
        for ahead in range(1, self._ahead + 1):
            if row + ahead < len(self._layout.layers):
                self._fetch_ahead(row + ahead, ahead)

    def done(self, layer: int) -> None:
        """The layer has been computed, or given up."""
        for key in self._wanted:
            self._cache.unpin(key)
        self._wanted.clear()

    def close(self) -> None:
        """End the readers and give all memory back."""
        self._loader.close()
        self._slots.close()

    def _count(self, key: Key) -> None:
        self.stats.ahead_used += key in self._early
        self._early.discard(key)
        if self._cache.ready(key):
            self.stats.hits += 1
        elif self._cache.coming(key):
            self.stats.late += 1
        else:
            self.stats.misses += 1

    def _arriving(self, layer: int, left: dict[int, int]) -> Iterator[list[int]]:
        while left:
            ready = [expert for expert in left if self._cache.ready((layer, expert))]
            for expert in ready:
                del left[expert]
                self._pin((layer, expert))
            if ready:
                yield ready
                if left:
                    self._ask_for(layer, left, computed=True)
                continue
            began = perf_counter()
            self._collect(wait=True, wanted=(layer, left))
            self.stats.waited_s += perf_counter() - began
            self._ask_for(layer, left)

    def _ask_for(self, layer: int, left: Mapping[int, int], *, computed: bool = False) -> None:
        """Have all read that is neither there nor on its way; what there is no room for is asked for again later.

        `computed`: what is pinned may go for it.
        """
        for expert in sorted(left, key=lambda expert: -left[expert]):
            key, urgency = (layer, expert), (0.0, -float(left[expert]))
            if self._cache.coming(key):
                self._loader.hurry(urgency, key)
            elif not self._cache.ready(key) and not self._load_now(key, urgency):
                if computed:
                    self.done(layer)
                if not (computed and self._load(key, urgency, at_any_cost=True)):
                    return
            self._pin(key)

    def _pin(self, key: Key) -> None:
        if key not in self._wanted:
            self._wanted.add(key)
            self._cache.pin(key)

    def _fetch_ahead(self, row: int, ahead: int) -> None:
        odds = self._predictor.odds(row, ahead)
        if odds is None:
            return
        layer = self._layout.layers[row]
        self._cache.expect(layer, odds)
        for expert in (-odds).argsort().tolist():
            key = layer, expert
            if odds[expert] < _LIKELY:
                return
            if self._cache.ready(key) or self._cache.coming(key):
                continue
            if not self._load(key, (float(ahead), -odds[expert]), at_any_cost=False):
                return
            self._early.add(key)
            self.stats.ahead_bytes += self._slots.size

    def _load(self, key: Key, urgency: tuple[float, ...], *, at_any_cost: bool) -> bool:
        """Have an expert read; False, and nothing has changed, where there is no room."""
        gone = self._cache.reserve(key, at_any_cost=at_any_cost)
        if gone is None:
            return False
        for old in gone:
            self._slots.give(old)
            self.stats.ahead_wasted += old in self._early
            self._early.discard(old)
        self._on_the_way += 1
        self._loader.submit(urgency, key, self._slots.take(key))
        return True

    def _load_now(self, key: Key, urgency: tuple[float, ...]) -> bool:
        """As `_load`, at any cost: what was to be read early and has not begun makes room."""
        if self._load(key, urgency, at_any_cost=True):
            return True
        self._withdraw(lambda other: other in self._early)
        return self._load(key, urgency, at_any_cost=True)

    def _withdraw(self, unwanted: Callable[[Key], bool]) -> None:
        for key in self._loader.withdraw(unwanted):
            self.stats.ahead_bytes -= self._slots.size * (key in self._early)
            self._fail(key)

    def _collect(self, *, wait: bool, wanted: tuple[int, Mapping[int, int]] | None = None) -> None:
        """Take in what has been read; the error of what the layer wants is raised."""
        lost: GenerationError | None = None
        for arrival in self._loader.arrivals(wait=wait and self._on_the_way > 0):
            if arrival.error is None:
                self._on_the_way -= 1
                self._cache.arrived(arrival.key)
                self.stats.read_bytes += self._slots.size
                continue
            self._fail(arrival.key)
            if wanted and arrival.key[0] == wanted[0] and arrival.key[1] in wanted[1]:
                lost = arrival.error
        if lost:
            raise lost

    def _fail(self, key: Key) -> None:
        """What was on its way does not come."""
        self._on_the_way -= 1
        self._cache.failed(key)
        self._slots.give(key)
        self._early.discard(key)
