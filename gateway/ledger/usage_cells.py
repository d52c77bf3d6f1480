"""Which cells of the usage tables a batch of logged requests adds to, and what. Pure; knows no database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Table

from gateway.ledger.histogram import BUCKETS, bucket_of
from gateway.ledger.rows import COLUMNS, Row
from gateway.ledger.tables import usage_caller, usage_category, usage_model
from gateway.ledger.usage_tables import COUNTS, FINE_S, SPANS_S

Cell = tuple[Any, ...]
Sums = list[int]

# One request counts for no more, lest an upstream that lies about its usage makes a day's sum too large for 64 bits.
MOST_A_REQUEST: Final = 10**12
MISS: Final = "miss"
HIT: Final = "hit"
# The columns that are counted by, and that are counted.
READ: Final = (
    *("at", "model", "endpoint", "policy", "category", "organisation_id", "team_id", "key_id"),
    *("status", "cache_status", "input_tokens", "output_tokens", "cached_tokens"),
    *("cost_nanousd", "saved_nanousd", "total_ms", "first_byte_ms"),
)
_read: Final = itemgetter(*map(COLUMNS.index, READ))
_NO_TIMES: Final = (0,) * (2 * BUCKETS)
_COUNTED: Final = len(COUNTS)


class UsageTally:
    """Adds requests up; `cells` then gives each table's rows, ready to be added to what is there."""

    def __init__(self) -> None:
        self._models: dict[Cell, Sums] = {}
        self._categories: dict[Cell, Sums] = {}
        self._callers: dict[Cell, Sums] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Count rows of `request_log`."""
        self.count(map(_read, rows))

    def count(self, rows: Iterable[Sequence[Any]]) -> None:
        """Count what `READ` names of each request."""
        for at, answered, endpoint, policy, category, organisation, team, key, *rest in rows:
            start, model = int(at) // FINE_S * FINE_S, answered or ""
            total_ms, first_byte_ms = rest[7:]
            counts = _counts(*rest[:7])
            times = _sums(self._models, (start, model, endpoint or ""), counts, _NO_TIMES)
            if total_ms is not None:
                times[_COUNTED + bucket_of(total_ms)] += 1
            if first_byte_ms is not None:
                times[_COUNTED + BUCKETS + bucket_of(first_byte_ms)] += 1
            _sums(self._categories, (start, policy or "", category or "", model), counts)
            _sums(self._callers, (start, organisation or "", team or "", key or "", model), counts)

    def cells(self) -> list[tuple[Table, list[Cell]]]:
        """Rows of each table in the order of its columns, sorted by key: two writers wait for each other, but never
        in a circle."""
        found = ((usage_model, self._models), (usage_category, self._categories), (usage_caller, self._callers))
        return [(table, _of_all_spans(fine)) for table, fine in found]


def _counts(
    status: int,
    cache_status: str,
    read: int | None,
    written: int | None,
    cached: int | None,
    cost: int | None,
    saved: int | None,
) -> Sums:
    hit = cache_status.startswith(HIT)
    counts = [1, status >= 400, status >= 500, hit or cache_status == MISS, hit]
    return counts + [_bounded(value) for value in (read, written, cached, cost, saved)]


def _bounded(value: int | None) -> int:
    if not value:
        return 0
    return max(-MOST_A_REQUEST, min(MOST_A_REQUEST, value))


def _sums(cells: dict[Cell, Sums], cell: Cell, counts: Sums, more: tuple[int, ...] = ()) -> Sums:
    """Add counts to a cell; gives its sums."""
    sums = cells.get(cell)
    if sums is None:
        sums = cells[cell] = [*map(int, counts), *more]
        return sums
    for place, count in enumerate(counts):
        if count:
            sums[place] += count
    return sums


def _of_all_spans(fine: dict[Cell, Sums]) -> list[Cell]:
    cells: dict[Cell, Sums] = {}
    for (at, *lines), sums in fine.items():
        for span in SPANS_S:
            cell = (span, at // span * span, *lines)
            there = cells.get(cell)
            cells[cell] = sums if there is None else [a + b for a, b in zip(there, sums, strict=True)]
    return sorted((*cell, *sums) for cell, sums in cells.items())
