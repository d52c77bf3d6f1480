"""An opened reply on its way to the client, with all that must be settled when it ends. Knows no stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.admission.base import Lease
from gateway.cache.cache import Keeping
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
    it. `own_length`: the bound on tokens that the request itself sets, where no budget may set a lesser one."""

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

    def keep(self) -> None:
        """Hand the cache what it has collected, once the answer is settled and logged."""
        if self.keeping is not None:
            said, own = self.record.output_tokens or 0, self.own_length
            self.keeping.done(self.logged, length_is_own=own is not None and said >= own)

    @property
    def logged(self) -> Record:
        """The record of the request that it answers."""
        return self.record if self.whole is None else self.whole.record
