"""What the pipeline knows of admission: needs in, a lease out. Knows no store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.admission.rules import Caller
from policies.catalogue import ModelCard


@dataclass(frozen=True, slots=True)
class Need:
    """What a call would take of budgets and limits if this endpoint answered it.

    `cost_nanousd` covers the prompt and `output_tokens` at the card's prices, `tokens` is prompt plus output as
    rate limits count them before the end: fewer than `output_tokens` where those are bounded generously.
    """

    endpoint_id: str
    card: ModelCard
    cost_nanousd: int
    tokens: int
    output_tokens: int


class Lease(Protocol):
    """Money and room set aside for one call, until `settle`, which must come in `finally`."""

    @property
    def place(self) -> int:
        """Which of the needs was granted."""

    @property
    def hard(self) -> bool:
        """Whether a hard budget bounds this call: only then must its cost stay below what is reserved."""

    @property
    def reserved_nanousd(self) -> int:
        """What is set aside now."""

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """`x-ratelimit-*`, and warnings of soft budgets."""

    async def extend(self, cost_nanousd: int) -> bool:
        """Make the reservation cover this cost in all; False where the budgets do not."""

    async def move(self, need: Need) -> bool:
        """Let another endpoint answer: its reservation takes the place of the present one, or the present one stays."""

    def settle(self, cost_nanousd: int, tokens: int) -> None:
        """The real cost; never waits, never raises; only the first call counts."""


class Admission(Protocol):
    """One per process."""

    def precheck(self, caller: Caller) -> None:
        """Raise `RateLimited` at once for a caller who was just refused and can't have room yet; costs no look-up."""

    async def admit(self, caller: Caller, tags: Sequence[str], needs: Sequence[Need], fail_open: bool) -> Lease:
        """A lease for the first of `needs` that budgets and limits cover, in one step each.

        Raises `RateLimited` or `BudgetExceeded` (the last refusal), `PriceUnknown` where a hard budget bounds the call
        and no card of `needs` has a price, `Overloaded` where the store is away and `fail_open` is false.
        """
