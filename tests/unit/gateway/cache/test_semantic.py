"""The search of one partition: who may be served, and who no longer."""

from collections.abc import Sequence
from functools import partial
from math import inf

import numpy as np
import numpy.typing as npt

from gateway.cache.parsed import BUCKETS, parse
from gateway.cache.partition import Vector
from gateway.cache.semantic import ELSE, Candidate, Entry, SemanticIndex, Thresholds

EVEN = [1.0] * BUCKETS


def entry(key: str, category: str = "code", angle: float = 0.0) -> Entry:
    vector = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    return Entry(key, category, parse(key, EVEN), vector)


def by_cosine(query: Entry, candidates: Sequence[Candidate], cosines: Vector) -> npt.NDArray[np.float64]:
    return np.asarray(cosines, dtype=np.float64)


class Cache:
    """An index with fixed thresholds."""

    def __init__(self, **by_category: float | None) -> None:
        self.index = SemanticIndex(2, by_cosine)
        self.thresholds = Thresholds({ELSE: 0.9, **by_category})

    def add(self, one: Entry, until_s: float = inf) -> None:
        self.index.add(one, one.vector, until_s)

    def find(self, query: Entry, now_s: float = 0.0) -> list[str]:
        return [one.key for one in self.index.find(query, partial(self.thresholds.of, query.category), now_s)]


def test_the_likeliest_entry_comes_first() -> None:
    cache = Cache()
    for key, angle in (("far", 0.4), ("near", 0.1), ("other", 1.5)):
        cache.add(entry(key, angle=angle))

    assert cache.find(entry("asked")) == ["near", "far"]


def test_a_match_tells_its_cosine_and_probability() -> None:
    cache = Cache()
    cache.add(entry("near", angle=0.1))

    (match,) = cache.index.find(entry("asked"), lambda category: 0.9)

    assert match.cosine == match.probability
    assert 0.99 < match.probability <= 1.0


def test_nothing_below_the_threshold_is_served() -> None:
    cache = Cache(code=0.999)
    cache.add(entry("near", angle=0.1))

    assert cache.find(entry("asked")) == []


def test_the_stricter_category_decides() -> None:
    cache = Cache(strict=0.9999, off=None)
    cache.add(entry("one", "strict", 0.05))

    assert cache.find(entry("asked", "code")) == []
    assert cache.find(entry("asked", "off")) == []
    cache.add(entry("two", "unheard of", 0.05))
    assert cache.find(entry("asked", "code")) == ["two"]


def test_a_removed_entry_is_served_no_more_and_the_others_are() -> None:
    cache = Cache()
    for key, angle in (("a", 0.0), ("b", 0.2), ("c", 1.0)):
        cache.add(entry(key, angle=angle))

    assert cache.index.remove("a")
    assert not cache.index.remove("a")

    assert [cache.find(entry("q", angle=angle)) for angle in (0.0, 1.0)] == [["b"], ["c"]]


def test_an_entry_that_has_expired_takes_no_candidate_s_place() -> None:
    cache = Cache()
    for number in range(20):
        cache.add(entry(f"old {number}"), until_s=10.0)
    cache.add(entry("living", angle=0.1))

    assert cache.find(entry("q"), now_s=10.0) == ["living"]
    assert "living" not in cache.find(entry("q"), now_s=9.9)


def test_an_entry_of_the_same_key_is_replaced() -> None:
    cache = Cache()
    cache.add(entry("a", angle=0.0))
    cache.add(entry("a", angle=1.5))

    assert len(cache.index) == 1
    assert cache.find(entry("q", angle=0.0)) == []
