"""Threads that read planes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from local_runtime.experts.errors import ExpertLost
from local_runtime.experts.layout import Key
from local_runtime.experts.loader import Arrival, Loader

NOTHING = memoryview(b"")


class Gated:
    """A store that reads when it is let; expert 9 is lost."""

    def __init__(self) -> None:
        self.may = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.order: list[Key] = []

    def read(self, key: Key, into: memoryview) -> None:
        self.order.append(key)
        self.began.release()
        self.may.acquire()
        if key[1] == 9:
            raise ExpertLost("gone")


@pytest.fixture
def gated() -> Iterator[tuple[Gated, Loader]]:
    store = Gated()
    loader = Loader(store, 1)
    yield store, loader
    store.may.release(100)
    loader.close()


def all_of(loader: Loader, count: int) -> list[Arrival]:
    found: list[Arrival] = []
    while len(found) < count:
        found += loader.arrivals(wait=True)
    return found


def test_the_most_urgent_is_read_first_whatever_was_asked_before(gated: tuple[Gated, Loader]) -> None:
    store, loader = gated
    loader.submit((5.0,), (0, 0), NOTHING)
    store.began.acquire()  # the reader is busy with it
    for urgency, expert in ((2.0, 1), (0.0, 2), (1.0, 3), (2.0, 4)):
        loader.submit((urgency,), (0, expert), NOTHING)
    loader.hurry((0.5,), (0, 4))
    loader.hurry((9.0,), (0, 2))  # it has been more urgent already
    store.may.release(5)

    arrived = all_of(loader, 5)

    assert [key[1] for key in store.order] == [0, 2, 4, 3, 1]
    assert [arrival.key[1] for arrival in arrived] == [0, 2, 4, 3, 1]


def test_what_is_withdrawn_is_not_read_and_what_has_begun_can_not_be(gated: tuple[Gated, Loader]) -> None:
    store, loader = gated
    loader.submit((0.0,), (0, 0), NOTHING)
    store.began.acquire()
    loader.submit((1.0,), (0, 1), NOTHING)
    loader.submit((1.0,), (0, 2), NOTHING)
    loader.hurry((0.5,), (0, 2))

    back = loader.withdraw(lambda key: key[1] != 1)
    store.may.release(2)

    assert back == [(0, 2)]
    assert [arrival.key[1] for arrival in all_of(loader, 2)] == [0, 1]


def test_what_is_lost_arrives_with_its_error_and_the_reader_lives_on(gated: tuple[Gated, Loader]) -> None:
    store, loader = gated
    store.may.release(2)
    loader.submit((0.0,), (0, 9), NOTHING)
    loader.submit((1.0,), (0, 1), NOTHING)

    lost, well = all_of(loader, 2)

    assert isinstance(lost.error, ExpertLost)
    assert well == Arrival((0, 1), None)


def test_nothing_is_waited_for_unless_asked(gated: tuple[Gated, Loader]) -> None:
    assert gated[1].arrivals(wait=False) == []
