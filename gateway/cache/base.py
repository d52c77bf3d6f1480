"""The seam of the cache's stores: answers by exact fingerprint or id, and news of what can be found by likeness.

A store knows no request, no policy and no likeness; who calls it has decided what may be kept and shared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.cache.partition import Vector


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole answer and what it was given for. It never changes, and `expires_s` is never moved by a hit.

    `id`, `partition` and `exact` are hex digits (see `identity`), `tenant` is "kind:id". `text` and `vector` (float32,
    unit length, by `embedder`) are set where paraphrases may find it; both are empty where exact repeats only may.
    `category` is the policy's, `topic` what the verifier takes the question for. `body` is a chat completion with its
    usage. Times are Unix seconds. Tokens and cost are what the answer took when it was made, so what a hit saves.

    For `stale_s` seconds after `expires_s` it is still kept, for those who would rather have an old answer than none.
    """

    id: str
    tenant: str
    partition: str
    exact: str
    category: str
    body: bytes
    model: str
    endpoint: str
    created_s: float
    expires_s: float
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0
    tags: tuple[str, ...] = ()
    end_user: str | None = None
    text: str = ""
    topic: str = ""
    vector: Vector | None = None
    embedder: str = ""
    stale_s: float = 0.0

    @property
    def gone_s(self) -> float:
        """When it is forgotten."""
        return self.expires_s + self.stale_s

    def lives(self, now_s: float, stale_s: float = 0.0) -> bool:
        """Whether it may be given to one who takes answers that expired at most so many seconds ago."""
        return now_s < self.expires_s + min(stale_s, self.stale_s)

    @property
    def known(self) -> Known | None:
        """What finds it by likeness, or None."""
        if self.vector is None:
            return None
        return Known(
            self.id,
            self.tenant,
            self.partition,
            self.topic,
            self.text,
            self.vector,
            self.embedder,
            self.expires_s,
            self.stale_s,
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What every worker holds of an answer that paraphrases may find; see `Stored`."""

    id: str
    tenant: str
    partition: str
    topic: str
    text: str
    vector: Vector
    embedder: str
    expires_s: float
    stale_s: float = 0.0

    @property
    def gone_s(self) -> float:
        """When it is forgotten."""
        return self.expires_s + self.stale_s


class Listener(Protocol):
    """Who searches by likeness. Called on the event loop, in order; must neither wait nor raise."""

    def added(self, known: Sequence[Known]) -> None:
        """These can be found from now on; one of an id that is known replaces it."""

    def dropped(self, tenant: str, ids: Sequence[str]) -> None:
        """These are gone; unknown ids are of no consequence."""

    def cleared(self) -> None:
        """All that was told is void; what is still there will be told anew."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one tenant may keep: answers and bytes (bodies with texts and vectors). `reserved` are shares of both that a
    category is sure of, whatever others borrow; they sum to 1 at most."""

    entries: int
    bytes: int
    reserved: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers of a tenant; every field that is set must hold. `older_s`: created before that Unix time."""

    ids: tuple[str, ...] = ()
    category: str | None = None
    model: str | None = None
    tag: str | None = None
    end_user: str | None = None
    older_s: float | None = None

    def holds(self, stored: Stored) -> bool:
        """Whether an answer is among them."""
        return (
            (not self.ids or stored.id in self.ids)
            and self.category in (None, stored.category)
            and self.model in (None, stored.model)
            and (self.tag is None or self.tag in stored.tags)
            and self.end_user in (None, stored.end_user)
            and (self.older_s is None or stored.created_s < self.older_s)
        )


class StoreAway(Exception):
    """The store does not answer just now: the cache is passed by. Carries no key and no text."""


class Store(Protocol):
    """Keeps answers until they expire, are dropped, or give way to others of more worth within their tenant's quota.

    All methods raise `StoreAway` within the store's bound of time, nothing else. What has expired is never given out,
    but to those who take it stale, for as long as it is kept beyond that: see `Stored.lives`.
    """

    async def start(self) -> None:
        """Begin to tell the listener what is there and what changes, also by other workers; returns at once."""

    async def close(self) -> None:
        """End that; idempotent."""

    async def exact(self, tenant: str, exact: str, stale_s: float = 0.0) -> Stored | None:
        """The newest answer of this exact fingerprint."""

    async def get(self, tenant: str, answer_id: str, stale_s: float = 0.0) -> Stored | None:
        """The answer of this id."""

    async def put(self, stored: Stored, quota: Quota) -> bool:
        """Keep it; the newest of one exact fingerprint replaces older ones. False where it is larger than the quota.
        The listener of this worker hears of it before this returns, others within milliseconds."""

    async def hit(self, stored: Stored) -> None:
        """It was given out once more: it is worth more than before. Its expiry stays."""

    async def drop(self, tenant: str, ids: Sequence[str]) -> int:
        """Forget these at once, on every worker; how many there were."""

    def entries(self, tenant: str, wanted: Wanted) -> AsyncIterator[Stored]:
        """The answers of a tenant, in no order, without holding up others; also what has expired, until it is gone."""

    async def tenants(self) -> list[str]:
        """Who keeps anything."""

    def figures(self) -> dict[str, float]:
        """For operators."""
