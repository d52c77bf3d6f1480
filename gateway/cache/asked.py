"""What one request is to the cache on its way through the pipeline, and what it may get from it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.cache.base import Stored
from gateway.cache.canonical import Canonical
from gateway.cache.control import Control
from gateway.cache.eligibility import Allowed
from gateway.cache.flights import Flight
from gateway.wire.chat_request import ChatRequest
from policies.schema import CacheMode, Policy


@dataclass(slots=True)
class Asked:
    """A request that the cache has to do with. `may` is bounded by its category once that is known."""

    request: ChatRequest
    policy: Policy
    control: Control
    tenant: str
    form: Canonical
    partition: str
    exact: str
    may: Allowed
    flight: Flight | None = None

    @property
    def status(self) -> str:
        """What the ledger says of it where there was no hit."""
        return "bypass" if self.may.mode is CacheMode.OFF or not self.control.reads else "miss"

    def land(self, stored: Stored | None = None) -> None:
        """Those who wait get the answer; without one the first of them asks for all."""
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.land(stored)

    def release(self) -> None:
        """Those who wait ask for themselves."""
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.release()

    def needs_embedding(self, is_named: bool) -> bool:
        """Whether it may be answered by likeness as far as the request itself goes, or its category, where no predicate
        `is_named`, may be cached otherwise than others."""
        policy = self.policy
        alike = self.may.mode is CacheMode.SEMANTIC and policy.most_cached is CacheMode.SEMANTIC
        return alike or (not is_named and policy.needs_embedding and bool(policy.cache_rules))


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer to give again; `probability` that it is the same, 1 of an exact repeat."""

    stored: Stored
    kind: CacheMode
    probability: float
    age_s: float
