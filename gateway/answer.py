"""An opened reply on its way to the client, with all that must be settled when it ends. Knows no stage."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from gateway.admission.base import Lease
from gateway.cache.collecting import Keeping
from gateway.dispatch.dispatch import Opened
from gateway.ledger.record import Record
from policies.schema import Policy
from routers.decision import Query


class Whole(Protocol):
    """The request that a call is one of several of."""

    @property
    def record(self) -> Record:
        """The request's own record; that of the call is another."""

    def shown(self, frame: bytes) -> bytes:
        """A frame of the answer as the client sees it: with the usage of all calls."""

    def conclude(self) -> None:
        """Sum up in `record` what its calls took, once all have ended."""


@dataclass(slots=True)
class Answer:
    """One call's reply; `whole` where a strategy makes the request's answer of several, `keeping` where the cache takes
    it. `own_length`: the bound on tokens that the request itself sets, where no budget may set a lesser one. `left`:
    the status and code of a client that left a stream which others went on to hear."""

    opened: Opened
    lease: Lease
    query: Query
    record: Record
    started: float
    policy: Policy
    choices: int
    whole: Whole | None = None
    keeping: Keeping | None = None
    own_length: int | None = None
    left: tuple[int, str | None] | None = None

    def keep(self) -> None:
        """Hand the cache what it has collected, once the answer is settled and logged."""
        if self.keeping is not None:
            said, own = self.record.output_tokens or 0, self.own_length
            ended_well = None if self.left is None else self.opened.meter.done
            self.keeping.done(self.logged, length_is_own=own is not None and said >= own, ended_well=ended_well)

    def leave(self, fate: tuple[int, str | None]) -> None:
        """The client left, but not all who hear its stream: it is logged when that ends, and not before."""
        self.left = fate
        self.logged.total_ms = (perf_counter() - self.started) * 1000
        if self.keeping is not None:
            self.keeping.goes_on()

    @property
    def logged(self) -> Record:
        """The record of the request that it answers."""
        return self.record if self.whole is None else self.whole.record
