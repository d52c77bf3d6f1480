"""The search of one partition: who may be served, and who no longer."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gateway.cache.parsed import BUCKETS, parse
from gateway.cache.partition import Vector
from gateway.cache.semantic import ELSE, Entry, SemanticIndex, Thresholds

EVEN = [1.0] * BUCKETS


def entry(key: str, category: str = "code", angle: float = 0.0) -> Entry:
    vector = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    return Entry(key, category, parse(key, EVEN), vector)


def by_cosine(query: Entry, candidates: Sequence[Entry], cosines: Vector) -> npt.NDArray[np.float64]:
    return np.asarray(cosines, dtype=np.float64)


def index(**by_category: float | None) -> SemanticIndex:
    return SemanticIndex(2, by_cosine, Thresholds({ELSE: 0.9, **by_category}))


def test_the_likeliest_entry_is_served() -> None:
    cache = index()
    for key, angle in (("far", 0.4), ("near", 0.1), ("other", 1.5)):
        cache.add(entry(key, angle=angle))

    found = cache.find(entry("asked"))

    assert found is not None
    assert found.key == "near"
    assert 0.99 < found.probability <= 1.0


def test_nothing_below_the_threshold_is_served() -> None:
    cache = index(code=0.999)
    cache.add(entry("near", angle=0.1))

    assert cache.find(entry("asked")) is None


def test_the_stricter_category_decides() -> None:
    cache = index(strict=0.9999, off=None)
    cache.add(entry("one", "strict", 0.05))

    assert cache.find(entry("asked", "code")) is None
    assert cache.find(entry("asked", "off")) is None
    cache.add(entry("two", "unheard of", 0.05))
    assert cache.find(entry("asked", "code")) is not None


def test_a_removed_entry_is_served_no_more_and_the_others_are() -> None:
    cache = index()
    for key, angle in (("a", 0.0), ("b", 0.2), ("c", 1.0)):
        cache.add(entry(key, angle=angle))

    assert cache.remove("a")
    assert not cache.remove("a")

    assert [getattr(cache.find(entry("q", angle=angle)), "key", None) for angle in (0.0, 1.0)] == ["b", "c"]


def test_an_entry_of_the_same_key_is_replaced() -> None:
    cache = index()
    cache.add(entry("a", angle=0.0))
    cache.add(entry("a", angle=1.5))

    assert len(cache) == 1
    assert cache.find(entry("q", angle=0.0)) is None
