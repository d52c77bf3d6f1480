"""What all processes know of answers by likeness, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.ledger.cache_evidence import Label, Place, Sums
from gateway.ledger.faults import DatabaseUnavailable


class Sheet:
    """The sums of all processes."""

    def __init__(self) -> None:
        self.sums: dict[Place, Sums] = {}
        self.away = False

    async def add(self, _: str, hits: Mapping[Place, int], labels: Sequence[Label]) -> dict[Place, Sums]:
        if self.away:
            raise DatabaseUnavailable("away")
        more = [(place, "hits", count) for place, count in hits.items()]
        for place, name, count in [*more, *((label.place, label.verdict, 1) for label in labels)]:
            before = self.sums.get(place, Sums())
            self.sums[place] = replace(before, **{name: getattr(before, name) + count})
        return {place: self.sums[place] for place in {*hits, *(label.place for label in labels)}}

    async def close(self, _: str, place: Place, detail: Mapping[str, object]) -> bool:
        self.sums[place] = replace(self.sums[place], closed_at=1.0)
        return bool(detail)

    async def read(self, *_: str | None) -> list[tuple[str, Place, Sums]]:
        return [("c1", place, sums) for place, sums in self.sums.items()]

    async def reset(self, *_: object) -> int:
        count, self.sums = len(self.sums), {}
        return count

    async def closed(self, _: str) -> set[Place]:
        return {place for place, sums in self.sums.items() if sums.closed_at is not None}
