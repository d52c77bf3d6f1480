"""What one worker can find by likeness: all known entries, each partition apart, and the likeliest ones for a query.

It hears of entries through `Listener` and never raises for one that is wrong; which threshold counts is the caller's.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from math import isfinite
from time import time

import numpy as np

from gateway.cache.base import Known
from gateway.cache.parsed import MAX_CHARACTERS, Parsed
from gateway.cache.partition import Vector
from gateway.cache.semantic import Entry, Judge, Match, Needed, SemanticIndex
from gateway.cache.value_heap import ValueHeap

Parse = Callable[[str], Parsed]
Name = tuple[str, str]
# Tenant, partition, embedder and length of the vectors: nothing else is ever compared.
Place = tuple[str, str, str, int]
MAX_ENTRIES = 200_000
# Entries whose text stays parsed: about 10 kB each.
MAX_PARSED = 10_000
MAX_DIMENSIONS = 8192
# How far the square of a vector's length may be from 1; half precision is off by less than 0.001.
TOLERANCE = 0.01
# Expired entries that one call clears away.
_SWEPT = 64


class Readings:
    """What texts say, read at first need; of those read the least lately needed are forgotten first."""

    def __init__(self, parse: Parse, most: int) -> None:
        self._parse = parse
        self._most = most
        self._kept: OrderedDict[Name, Parsed] = OrderedDict()

    def of(self, name: Name, text: str) -> Parsed:
        """A text's evidence."""
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = self._parse(text)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(name)
        return found

    def forget(self, name: Name) -> None:
        """It is gone, or its text another."""
        self._kept.pop(name, None)

    def clear(self) -> None:
        """All are gone."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


class Held:
    """One entry without its vector."""

    __slots__ = ("_readings", "_text", "category", "key", "place")

    def __init__(self, known: Known, place: Place, readings: Readings) -> None:
        self.key = known.id
        self.category = known.topic
        self.place = place
        self._text = known.text[:MAX_CHARACTERS]
        self._readings = readings

    @property
    def parsed(self) -> Parsed:
        """What its text says."""
        return self._readings.of((self.place[0], self.key), self._text)


def any_likeness(_category: str) -> float | None:
    """Every candidate will do, however unlikely: who asks so decides himself."""
    return 0.0


class LikenessIndex:
    """Listens to a store. `counts` are of entries that were `rejected` (by reason), `evicted` and `expired`."""

    def __init__(
        self,
        judge: Judge,
        parse: Parse,
        *,
        max_entries: int = MAX_ENTRIES,
        max_parsed: int = MAX_PARSED,
        clock: Callable[[], float] = time,
    ) -> None:
        self._judge = judge
        self._parse = parse
        self._max_entries = max_entries
        self._clock = clock
        self._readings = Readings(parse, max_parsed)
        self._held: dict[Name, Held] = {}
        self._indexes: dict[Place, SemanticIndex] = {}
        self._order = ValueHeap()
        self._dimensions: dict[str, int] = {}
        self.rejected: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def another(self) -> LikenessIndex:
        """An empty one that judges as this does."""
        return LikenessIndex(self._judge, self._parse, max_entries=self._max_entries, clock=self._clock)

    def figures(self) -> dict[str, float]:
        """How much is held, for operators."""
        size = sum(index.nbytes for index in self._indexes.values())
        return {
            "entries": len(self._held),
            "partitions": len(self._indexes),
            "parsed": len(self._readings),
            "vector_bytes": size,
            **self.counts,
            **{f"rejected_{reason}": count for reason, count in self.rejected.items()},
        }

    @property
    def indexes(self) -> Collection[SemanticIndex]:
        """Those of the partitions that hold anything."""
        return self._indexes.values()

    def added(self, known: Sequence[Known]) -> None:
        """See `Listener`. The soonest to expire give way where there are too many."""
        now_s = self._clock()
        self._sweep(now_s)
        for one in known:
            vector = unit_vector(one.vector)
            if reason := self._fault(one, vector, now_s):
                self.rejected[reason] += 1
                self._forget((one.tenant, one.id))
            elif vector is not None:
                self._add(one, vector)

    def dropped(self, tenant: str, ids: Sequence[str]) -> None:
        """See `Listener`."""
        for one in ids:
            self._forget((tenant, one))

    def cleared(self) -> None:
        """See `Listener`."""
        for index in self._indexes.values():
            index.close()
        self._held.clear()
        self._indexes.clear()
        self._readings.clear()
        self._order = ValueHeap()

    def find(
        self,
        tenant: str,
        partition: str,
        text: str,
        topic: str,
        vector: object,
        embedder: str,
        now_s: float,
        needed: Needed = any_likeness,
        stale_s: float = 0.0,
    ) -> list[Match]:
        """The entries of a tenant's partition that may answer a text, the likeliest first.

        `needed` says of an entry's topic how likely it must be. Only what lives after `now_s` (Unix seconds), or has
        expired at most `stale_s` seconds before, and has a vector of the same embedder is looked at.
        """
        self._sweep(now_s)
        asked = unit_vector(vector)
        if asked is None:
            return []
        self._dimensions[embedder] = len(asked)
        index = self._indexes.get((tenant, partition, embedder, len(asked)))
        if index is None:
            return []
        candidates, cosines = index.near(asked, now_s - stale_s)
        if not candidates:
            return []
        return index.judged(Entry("", topic, self._parse(text), asked), candidates, cosines, needed)

    def _fault(self, one: Known, vector: Vector | None, now_s: float) -> str:
        if vector is None:
            return "vector"
        if self._dimensions.get(one.embedder, len(vector)) != len(vector):
            return "dimensions"
        if not isfinite(one.gone_s):
            return "expiry"
        return "expired" if one.gone_s <= now_s else ""

    def _add(self, one: Known, vector: Vector) -> None:
        name, place = (one.tenant, one.id), (one.tenant, one.partition, one.embedder, len(vector))
        self._forget(name)
        index = self._indexes.get(place)
        if index is None:
            index = self._indexes[place] = SemanticIndex(len(vector), self._judge)
        held = self._held[name] = Held(one, place, self._readings)
        index.add(held, vector, one.expires_s)
        self._order.set(_line(name), one.gone_s)
        if len(self._held) > self._max_entries:
            self._forget(_name(self._order.least()[1]))
            self.counts["evicted"] += 1

    def _forget(self, name: Name) -> None:
        held = self._held.pop(name, None)
        if held is None:
            return
        self._order.discard(_line(name))
        self._readings.forget(name)
        index = self._indexes[held.place]
        index.remove(held.key)
        if not len(index):
            del self._indexes[held.place]

    def _sweep(self, now_s: float) -> None:
        """Clear some of what has expired; the rest is passed over until its turn."""
        for _ in range(min(_SWEPT, len(self._order))):
            until_s, line = self._order.least()
            if until_s > now_s:
                return
            self._forget(_name(line))
            self.counts["expired"] += 1


def unit_vector(given: object) -> Vector | None:
    """One row of numbers of length 1, or None where it is nothing of the kind."""
    try:
        vector = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return None
    if vector.ndim != 1 or not 0 < len(vector) <= MAX_DIMENSIONS:
        return None
    length = float(vector @ vector)
    return vector if abs(length - 1) <= TOLERANCE else None


def _line(name: Name) -> str:
    """A name as one text, the same for no other."""
    return f"{len(name[0])} {name[0]}{name[1]}"


def _name(line: str) -> Name:
    size, _, rest = line.partition(" ")
    return rest[: int(size)], rest[int(size) :]
