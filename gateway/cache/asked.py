"""What one request is to the cache on its way through the pipeline, and what it may get from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.cache.base import Stored
from gateway.cache.broadcast import Seat
from gateway.cache.canonical import Canonical
from gateway.cache.control import Control
from gateway.cache.eligibility import Allowed
from gateway.cache.flights import Flight
from gateway.cache.leases import HeldLease, Taken
from gateway.ledger.cache_evidence import Place
from gateway.providers.base import Target
from gateway.wire.chat_request import ChatRequest
from policies.schema import CacheMode, Policy


@dataclass(frozen=True, slots=True)
class Leeway:
    """What load allows beyond the usual: `level` how far the share of wrong answers moves from normal (0) to
    that under load (1), `stale_s` how long ago an answer may have expired; `instead`: of an error."""

    level: float = 0.0
    stale_s: float = 0.0
    load: float = 0.0
    instead: bool = False


CALM = Leeway()


@dataclass(slots=True)
class Asked:
    """A request that the cache has to do with. `may` is bounded by its category once that is known.

    `latest_s`: until when it may wait for others at all, by the event loop, `waits_since_s`: since when. `looked` is
    what was seen of other workers, and `gave_way` says that it does not lead, since it waits for another question's
    answer or stood behind one that does.
    `promised_id` is the answer's where others were told it before it was whole, `payer` are its key and tags.
    `place` is where an answer by likeness counts, `mark` what had been forgotten when it was asked. `targets` are those
    whose load gives it `leeway`.
    """

    request: ChatRequest
    policy: Policy
    control: Control
    tenant: str
    form: Canonical
    partition: str
    exact: str
    may: Allowed
    flight: Flight | None = None
    latest_s: float | None = None
    waits_since_s: float | None = None
    looked: HeldLease | Taken | None = None
    gave_way: bool = False
    promised_id: str = ""
    payer: tuple[str, ...] = ()
    place: Place | None = None
    mark: int = 0
    targets: tuple[Target, ...] = ()
    leeway: Leeway = CALM

    @property
    def streams(self) -> str | None:
        """Who would pay for the stream that is asked for: all that budgets go by. None where it is none."""
        return " ".join(self.payer) if self.request.stream else None

    @property
    def status(self) -> str:
        """What the ledger says of it where there was no hit."""
        return "bypass" if self.may.mode is CacheMode.OFF or not self.control.reads else "miss"

    def land(self, stored: Stored | None = None, arriving: asyncio.Future[bool] | None = None) -> None:
        """Those who wait get the answer, `arriving` in the store; without one the first of them asks for all."""
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.land(stored, arriving)

    def release(self) -> None:
        """Those who wait ask for themselves."""
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.release()

    def give_way(self) -> None:
        """It will wait for another; those who wait for it see for themselves whether they do."""
        flight, self.flight, self.gave_way = self.flight, None, True
        if flight is not None:
            flight.release(again=True)

    def needs_embedding(self, is_named: bool) -> bool:
        """Whether it may be answered by likeness as far as the request itself goes, or its category, where no predicate
        `is_named`, may be cached otherwise than others."""
        policy = self.policy
        alike = self.may.mode is CacheMode.SEMANTIC and policy.most_cached is CacheMode.SEMANTIC
        return alike or (not is_named and policy.needs_embedding and bool(policy.cache_rules))


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer to give again; `probability` that it is the same, 1 of an exact repeat.

    One that is still on its way to another client is read from the `seat`; `stored` then is what is known of it yet.
    It expired `stale_s` seconds ago; `loosened`: only load makes it good enough. `note` says why it is given all the
    same, by which `leeway`.
    """

    stored: Stored
    kind: CacheMode
    probability: float
    age_s: float
    seat: Seat | None = None
    stale_s: float = 0.0
    loosened: bool = False
    note: str = ""
    leeway: Leeway = CALM
