"""The stores of the cache under one roof: opened for a test, with a clock set by hand and a listener that remembers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gateway.cache.base import Known, Quota, Store, Stored, Wanted
from gateway.cache.memory_store import MemoryStore
from gateway.cache.partition import Vector
from gateway.cache.redis_store import RedisStore
from gateway.cache.sealed import Form
from gateway.redis_link import RedisLink
from tests.eventually import eventually
from tests.integration.redis_server import RedisServer

START_S = 2_000_000_000.0
TENANT = "organisation:a"
OTHER = "organisation:b"
ROOMY = Quota(1_000, 10_000_000)
DIMENSIONS = 32
_ids = itertools.count(1)


@dataclass(slots=True)
class Clock:
    """Unix seconds, moved by hand."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Heard:
    """A listener that keeps what it is told, as an index would."""

    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    told: list[tuple[str, ...]] = field(default_factory=list)
    clears: int = 0

    def added(self, known: Sequence[Known]) -> None:
        self.told.append(("added", *(one.id for one in known)))
        self.known.update({(one.tenant, one.id): one for one in known})

    def dropped(self, tenant: str, ids: Sequence[str]) -> None:
        self.told.append(("dropped", *ids))
        for one in ids:
            self.known.pop((tenant, one), None)

    def cleared(self) -> None:
        self.clears += 1
        self.known.clear()

    @property
    def ids(self) -> set[str]:
        """What can be found, of all tenants."""
        return {one for _, one in self.known}


@dataclass(slots=True)
class Opened:
    """A store under test, and how to open what another worker would have."""

    store: Store
    heard: Heard
    clock: Clock


Opening = Callable[[], AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def opened_memory() -> AsyncIterator[Opened]:
    """This process's memory."""
    heard, clock = Heard(), Clock()
    store = MemoryStore(heard, clock)
    await store.start()
    yield Opened(store, heard, clock)
    await store.close()


@asynccontextmanager
async def opened_redis(
    server: RedisServer, bound_s: float = 5.0, clock: Clock | None = None, form: Form | None = None
) -> AsyncIterator[Opened]:
    """One worker's store in Redis, which has heard all that is there."""
    heard, clock = Heard(), clock or Clock()
    link = RedisLink(server.url, bound_s)
    store = RedisStore(link, server.url, heard, clock, form)
    await link.start()
    await store.start()
    await eventually(lambda: heard.clears)
    yield Opened(store, heard, clock)
    await store.close()
    await link.close()


def unit(seed: int) -> Vector:
    """A direction."""
    numbers = np.random.default_rng(seed).normal(size=DIMENSIONS)
    vector: Vector = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return vector


def answer(**changes: Any) -> Stored:
    """An answer that paraphrases may find, unlike any other; `size` is the length of its body."""
    number = next(_ids)
    size = changes.pop("size", 1_000)
    plain = Stored(
        id=f"{number:032x}",
        tenant=TENANT,
        partition=f"{number % 7:032x}",
        exact=f"{number + 2**64:032x}",
        category="code",
        body=b"x" * size,
        model="large",
        endpoint="large-1",
        created_s=START_S,
        expires_s=START_S + 600,
        input_tokens=10,
        output_tokens=20,
        cost_nanousd=1_000_000,
        text=f"question {number}",
        topic="factual",
        vector=unit(number),
        embedder="minilm",
    )
    return replace(plain, **changes)


def exact_only(**changes: Any) -> Stored:
    """An answer that only its exact repeat finds; its size is its body's."""
    return replace(answer(**changes), text="", vector=None, embedder="")


async def kept(store: Store, tenant: str = TENANT, wanted: Wanted | None = None) -> set[str]:
    """Ids of what a tenant keeps."""
    return {one.id async for one in store.entries(tenant, wanted or Wanted())}


def same(one: Stored | None, other: Stored) -> bool:
    """Whether two are equal; a vector may have lost digits."""
    if one is None or (one.vector is None) != (other.vector is None):
        return False
    if one.vector is not None and other.vector is not None and not np.allclose(one.vector, other.vector, atol=1e-3):
        return False
    return replace(one, vector=None) == replace(other, vector=None)
