"""The experts of a model as its layers see them: wanted, there, computed, and gone again. Called from one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt

from local_runtime.base import GenerationError
from local_runtime.experts.cache import ExpertCache
from local_runtime.experts.errors import BudgetTooSmall
from local_runtime.experts.layout import Key
from local_runtime.experts.loader import Arrival, Loader
from local_runtime.experts.memory import Slabs
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
    """`budget` bytes for experts; `planes` of each are needed. `most` is how many a single row of a layer may want.

    BudgetTooSmall where those do not fit.
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
        self._planes = planes or len(layout.planes)
        self._slabs = Slabs(layout)
        sizes = [self._slabs.bytes_of(plane) for plane in range(len(layout.planes))]
        least = most * sum(sizes[: self._planes])
        if budget < least:
            raise BudgetTooSmall(
                f"{budget >> 20} MiB for experts hold none of {layout.experts} of which a token wants {most}: "
                f"at least {-(-least >> 20)} MiB are needed"
            )
        self._cache = ExpertCache(layout, sizes, budget, policy(rows, experts))
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        self._predictor = predictor or Best(rows, experts, AHEAD)
        self._ahead = AHEAD if prefetch else 0
        self._loader = Loader(store, readers)
        self._wanted: set[Key] = set()  # pinned
        self._early: set[Key] = set()  # fetched before they were wanted, and not wanted yet
        self._broken: set[Key] = set()  # a plane could not be read, another is still on its way
        self._on_the_way = 0
        self.stats = Stats()

    def address(self, layer: int, expert: int) -> list[int]:
        """Where the planes of an expert lie whenever they are there."""
        return [self._slabs.address((layer, expert), plane) for plane in range(len(self._layout.planes))]

    @property
    def resident_bytes(self) -> int:
        """What experts take now, those on their way among them."""
        return self._cache.used

    def want(self, layer: int, rows: Mapping[int, int]) -> Iterator[list[int]]:
        """Experts that a layer wants, with how many rows want each: as they are there, until all have been.

        Those that many want are read first, and of all the first plane. ExpertLost where one can't be read; the others
        are not affected.
        """
        self._withdraw(lambda key, _: key[0] == layer and key[1] not in rows)
        self._cache.visited(layer, np.fromiter(rows, dtype=np.intp))
        self._collect(wait=False)
        left = dict(rows)
        for expert in rows:
            self._count((layer, expert))
            if self._cache.ready((layer, expert)) >= self._planes:
                self._pin((layer, expert))
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
        self._slabs.close()

    def _count(self, key: Key) -> None:
        early = key in self._early
        self._early.discard(key)
        self.stats.ahead_used += early
        if self._cache.ready(key) >= self._planes:
            self.stats.hits += 1
        elif self._cache.coming(key) >= self._planes:
            self.stats.late += 1
        else:
            self.stats.misses += 1

    def _arriving(self, layer: int, left: dict[int, int]) -> Iterator[list[int]]:
        while left:
            ready = [expert for expert in left if self._cache.ready((layer, expert)) >= self._planes]
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
            key, heat = (layer, expert), (-float(left[expert]),)
            if key in self._broken:
                continue
            for plane in range(self._cache.ready(key), self._cache.coming(key)):
                self._loader.hurry((0.0, plane, *heat), key, plane)
            if not self._load(key, (0.0,), heat, at_any_cost=True):
                if computed:
                    self.done(layer)
                if not (computed and self._load(key, (0.0,), heat, at_any_cost=True)):
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
            if odds[expert] < _LIKELY:
                return
            key = layer, expert
            coming = self._cache.coming(key)
            if key in self._broken or coming >= self._planes:
                continue
            if not self._load(key, (float(ahead),), (-odds[expert],), at_any_cost=False):
                return
            self._early.add(key)
            self.stats.ahead_bytes += sum(self._layout.stored(plane) for plane in range(coming, self._planes))

    def _load(self, key: Key, before: tuple[float, ...], after: tuple[float, ...], *, at_any_cost: bool) -> bool:
        """Have all planes read that are missing, urgent by `before`, plane, `after`; False, and nothing has changed but
        what had to go, where there is no room."""
        first = self._cache.coming(key)
        for plane in range(first, self._planes):
            gone = self._cache.reserve(key, at_any_cost=at_any_cost)
            if gone is None:
                for _ in range(first, plane):
                    self._cache.failed(key)
                return False
            self._dropped(gone)
        for plane in range(first, self._planes):
            self._on_the_way += 1
            self._loader.submit((*before, plane, *after), key, plane, self._slabs.view(key, plane))
        return True

    def _dropped(self, gone: Iterable[tuple[Key, int]]) -> None:
        for key, plane in gone:
            self._slabs.release(key, plane)
            if key in self._early:
                self._early.discard(key)
                self.stats.ahead_wasted += 1

    def _withdraw(self, unwanted: Callable[[Key, int], bool]) -> None:
        # From the last plane on: an expert has its first planes or none of them.
        for key, plane in sorted(self._loader.withdraw(unwanted), reverse=True):
            self._cache.failed(key)
            self._early.discard(key)
            self._mend(key)
            self._on_the_way -= 1
            self.stats.ahead_bytes -= self._layout.stored(plane)

    def _collect(self, *, wait: bool, wanted: tuple[int, Mapping[int, int]] | None = None) -> None:
        """Take in what has been read; the error of what the layer wants is raised."""
        lost: GenerationError | None = None
        for arrival in self._loader.arrivals(wait=wait and self._on_the_way > 0):
            self._on_the_way -= 1
            error = self._took(arrival)
            if error and wanted and arrival.key[0] == wanted[0] and arrival.key[1] in wanted[1]:
                lost = error
        if lost:
            raise lost

    def _took(self, arrival: Arrival) -> GenerationError | None:
        if arrival.error is None:
            self._cache.arrived(arrival.key)
            self._mend(arrival.key)
            self.stats.read_bytes += self._layout.stored(arrival.plane)
            return None
        self._cache.failed(arrival.key)
        self._early.discard(arrival.key)
        self._broken.add(arrival.key)
        self._mend(arrival.key)
        return arrival.error

    def _mend(self, key: Key) -> None:
        """Once nothing more of a broken expert is on its way, it is as if it had never been asked for."""
        if key in self._broken and self._cache.coming(key) == self._cache.ready(key):
            self._broken.discard(key)
            self._cache.forget(key)
            for plane in range(len(self._layout.planes)):
                self._slabs.release(key, plane)
