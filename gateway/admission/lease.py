"""One call's lease: what is set aside for it, until it is settled. Knows the desk, not how a need was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.admission.base import Need
from gateway.admission.bounds import UNBOUNDED, BoundsBook
from gateway.admission.desk import Desk, Held
from gateway.admission.gauges import GaugesUnavailable, Refused
from gateway.admission.refusals import BudgetStoreUnavailable, quota_headers, warning_header
from gateway.admission.rules import Caller


class GaugedLease:
    """`hold` None: nothing bounds the call, nothing is set aside."""

    __slots__ = ("_book", "_caller", "_desk", "_fail_open", "_hold", "_settled", "_tags", "place")

    def __init__(
        self,
        desk: Desk,
        book: BoundsBook,
        caller: Caller,
        tags: Sequence[str],
        fail_open: bool,
        place: int,
        hold: Held | None,
    ) -> None:
        self._desk = desk
        self._book = book
        self._caller = caller
        self._tags = tags
        self._fail_open = fail_open
        self._hold = hold
        self._settled = False
        self.place = place

    @property
    def hard(self) -> bool:
        """Whether a hard budget bounds this call; not where the store is away and the policy lets calls pass."""
        return self._hold is not None and self._hold.hard

    @property
    def reserved_nanousd(self) -> int:
        """What is set aside now."""
        return self._hold.reserved_nanousd if self._hold is not None else 0

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """`x-ratelimit-*` of the tightest limits, and warnings of soft budgets."""
        hold = self._hold
        if hold is None:
            return ()
        granted = hold.granted
        pairs = quota_headers(granted.requests, granted.tokens)
        return (*pairs, warning_header(hold.warned)) if hold.warned else pairs

    async def extend(self, cost_nanousd: int) -> bool:
        """Make the reservation cover this cost in all. While the store is away, the policy decides."""
        hold = self._hold
        if self._settled:
            return False
        if hold is None or not hold.hard or cost_nanousd <= hold.reserved_nanousd:
            return True
        if not hold.in_store:
            return self._fail_open
        more = cost_nanousd - hold.reserved_nanousd
        try:
            granted = await self._desk.gauges.extend(hold.lease_id, hold.demand, more)
        except GaugesUnavailable:
            self._desk.counts.store_away += 1
            granted = self._fail_open
        if granted:
            hold.reserved_nanousd += more
        return granted

    async def move(self, need: Need) -> bool:
        """Let another endpoint answer: what it needs takes the place of what is set aside, or all stays as it is."""
        if self._settled:
            return False
        bounds, old = self._book.of(self._caller, need.card.id, self._tags), self._hold
        if bounds is UNBOUNDED:
            if old is not None:
                self._desk.release(old, 0, 0)
                self._hold = None
            return True
        if bounds.hard and not need.card.priced:
            return False
        if old is not None and old.covers(bounds, need):
            return True
        try:
            outcome = await self._desk.set_aside(bounds, need, self._fail_open, old)
        except BudgetStoreUnavailable:
            return False
        if isinstance(outcome, Refused):
            return False
        self._hold = outcome
        return True

    def settle(self, cost_nanousd: int, tokens: int) -> None:
        """The real cost; only the first call counts."""
        if self._settled:
            return
        self._settled = True
        if self._hold is not None:
            self._desk.release(self._hold, cost_nanousd, tokens)

    def __del__(self) -> None:
        # Any thread may collect garbage, so this only leaves a note for the loop that looks after leases.
        if not self._settled and self._hold is not None:
            self._desk.dropped.append(self._hold.lease_id)
