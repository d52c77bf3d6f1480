"""The seam of the counters behind admission: one atomic step over all budgets and limits of a call.

Three stores implement it: memory (one process), SQL (several processes without Redis), Redis (several processes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.admission.rules import Budget, Rules

LEASE_S = 60.0
# For so long after a lease has expired a call that lives on all the same may still say what it has really cost.
CORRECTED_S = 86_400.0


class GaugesUnavailable(OSError):
    """The store did not answer within its bound; nobody knows whether the step was taken (leases expire).

    A store sets `asked` to False on errors of calls that it did not even try, so that nothing needs to be undone.
    """

    asked: bool = True


class Kind(StrEnum):
    """What stood in the way."""

    BUDGET = "budget"
    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class Demand:
    """What one call needs: its rules, the money (nano-dollars) and tokens that are set aside for it."""

    rules: Rules
    cost_nanousd: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Quota:
    """State of one minute's allowance, as `x-ratelimit-*` headers tell it: `reset_s` until it is whole again."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Granted:
    """The call may go on; quotas are those of the tightest limit, `warned` the ids of soft budgets now exceeded."""

    requests: Quota | None = None
    tokens: Quota | None = None
    warned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not go on, and nothing was changed. `free_nanousd` is what the refusing budget still covers,
    `retry_after_s` when a limit would let this call pass, or when the budget's window ends (None: never by itself)."""

    kind: Kind
    rule_id: str
    free_nanousd: int = 0
    retry_after_s: float | None = None
    requests: Quota | None = None
    tokens: Quota | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a lease: what the call has really cost and used."""

    lease_id: str
    demand: Demand
    cost_nanousd: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Expired:
    """A lease whose process died: its whole reservation was charged, since more can't have been spent."""

    lease_id: str
    cost_nanousd: int


@dataclass(frozen=True, slots=True)
class Level:
    """A budget's present window: nano-dollars spent and reserved, Unix seconds when it ends (None: never)."""

    budget: Budget
    spent_nanousd: int
    reserved_nanousd: int
    resets_at: float | None


class Gauges(Protocol):
    """Counters shared by whoever shares the store. Invariant: for each hard budget, at every moment,
    spent + reserved <= limit as long as no call costs more than was set aside for it; a settlement above its
    reservation counts in full. All methods but `settle` raise `GaugesUnavailable`.
    """

    async def admit(self, lease_id: str, demand: Demand, replacing: str | None = None) -> Granted | Refused:
        """Set everything aside, or nothing. `replacing` gives up that lease in the same step (kept on refusal);
        a replaced lease's requests and tokens are not counted twice, and of one that has expired the charge is taken
        back."""

    async def extend(self, lease_id: str, demand: Demand, more_nanousd: int) -> bool:
        """Set more money aside for a running call; False, and nothing changed, where a hard budget does not cover it
        or the lease is no longer known."""

    def settle(self, settlement: Settlement) -> None:
        """End a lease: spent grows by the real cost, the reservation goes, tokens are corrected. Never waits, never
        raises, idempotent by lease; carried out within milliseconds, retried while the store is away.

        Of a lease that has expired, and was charged whole, the difference is given back, for `CORRECTED_S`: in the
        bucket of that charge, so that no later window's spending grows by what was not reserved in it, and only while
        that bucket counts."""

    async def renew(self, lease_ids: Sequence[str]) -> None:
        """Keep running leases alive for another `LEASE_S`."""

    async def reap(self) -> Sequence[Expired]:
        """Charge and end leases that nobody renewed."""

    async def levels(self, budgets: Sequence[Budget]) -> Sequence[Level]:
        """Present figures, in the order asked."""

    async def start(self) -> None:
        """Begin background work."""

    async def drain(self, timeout_s: float) -> None:
        """Carry out all settlements that wait; end background work."""
