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
    it. `length_is_own`: it ends at a length only where the request itself says so."""

    opened: Opened
    lease: Lease
    query: Query
    record: Record
    started: float
    policy: Policy
    choices: int
    whole: Whole | None = None
    keeping: Keeping | None = None
    length_is_own: bool = False
