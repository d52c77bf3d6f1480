"""What is known of answers given by likeness, in SQL: sums of all processes, and which settings they have closed.

It adds up and remembers; which sums close a setting is the caller's business. Every call is bounded in time and raises
`DatabaseUnavailable` where the database does not answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Row, delete, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.acts import CACHE_TRUST, ITSELF, Act, Change, acting
from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.rows import clean
from gateway.ledger.tables import cache_evidence, cache_label

TIMEOUT_S: Final = 2.0
READ_ALL_S: Final = 60.0
MAX_TEXT_CHARS: Final = 16_384
MAX_NAME_CHARS: Final = 200
Verdict = Literal["same", "different", "undecided", "reported"]
_COUNTS: Final = ("hits", "reported", "same", "different", "undecided")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What is counted together: a tenant's questions of a topic, answered at a setting certified for a share."""

    tenant: str
    topic: str
    share: float


@dataclass(frozen=True, slots=True)
class Label:
    """What came out of one answer. `id` is that of the check, or of an answer that was reported; one id counts once.

    The questions, asked and cached, only where they may be kept. `score`: the verifier's probability of a checked one.
    """

    id: str
    at: float
    place: Place
    verdict: Verdict
    end_user: str | None = None
    asked: str | None = None
    cached: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """How many answers were given, reported as wrong, and checked with which outcome; since when that closes it."""

    hits: int = 0
    reported: int = 0
    same: int = 0
    different: int = 0
    undecided: int = 0
    closed_at: float | None = None


@dataclass(frozen=True, slots=True)
class CheckedPair:
    """Two questions, asked and cached, and whether a check found that they had the same answer.

    It was given by a configuration, at its setting for a share, with a score; all three are None of old ones.
    """

    asked: str
    cached: str
    same: bool
    topic: str
    calibration: str | None = None
    share: float | None = None
    score: float | None = None


class EvidenceStore:
    """Of one database; each configuration of the verifier has sums of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    async def add(self, calibration: str, hits: Mapping[Place, int], labels: Sequence[Label]) -> dict[Place, Sums]:
        """Add answers given and labels; the sums after that, of the places that these concern."""
        found = {}
        with asking():
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                new = [label for label in labels if await self._is_new(connection, calibration, label)]
                for place in sorted({*hits, *(label.place for label in new)}):  # lest two wait for each other
                    verdicts = Counter[str](label.verdict for label in new if label.place == place)
                    found[place] = await self._sum(
                        connection, calibration, place, {**verdicts, "hits": hits.get(place, 0)}
                    )
        return found

    async def close(self, calibration: str, place: Place, detail: Mapping[str, object]) -> bool:
        """Close a setting, audited, and tell all processes; False where it is closed already."""
        open_still = _at(calibration, place) & cache_evidence.c.closed_at.is_(None)
        async with self._acting(ITSELF) as act:
            done = await act.connection.execute(update(cache_evidence).where(open_still).values(closed_at=time()))
            if not done.rowcount:
                return False
            told = {"topic": place.topic, "share": place.share, **detail}
            await act.done("cache.tighten", place.tenant, told, Change(CACHE_TRUST))
        return True

    async def read(self, calibration: str | None = None, tenant: str | None = None) -> list[tuple[str, Place, Sums]]:
        """Configuration, place and sums, in order; of one configuration and one tenant, where these are given."""
        table = cache_evidence.c
        wanted = select(cache_evidence).order_by(table.tenant, table.topic, table.share.desc())
        if calibration is not None:
            wanted = wanted.where(table.calibration == calibration)
        if tenant is not None:
            wanted = wanted.where(table.tenant == clean(tenant))
        return [
            (row.calibration, Place(row.tenant, row.topic, row.share), _sums(row)) for row in await self._all(wanted)
        ]

    async def closed(self, calibration: str) -> set[Place]:
        """The places whose setting is not to be used."""
        table = cache_evidence.c
        wanted = select(table.tenant, table.topic, table.share).where(
            table.calibration == calibration, table.closed_at.is_not(None)
        )
        return {Place(row.tenant, row.topic, row.share) for row in await self._all(wanted)}

    async def reset(
        self, actor: str, tenant: str | None = None, topic: str | None = None, share: float | None = None
    ) -> int:
        """Forget sums, and so open settings again, audited; how many places there were."""
        table = cache_evidence.c
        which: ColumnElement[bool] = true()
        told: dict[str, object] = {}
        for name, column, value in (("topic", table.topic, topic), ("share", table.share, share)):
            if value is not None:
                which, told[name] = which & (column == value), value
        if tenant is not None:
            which &= table.tenant == clean(tenant)
        async with self._acting(actor) as act:
            count = (await act.connection.execute(delete(cache_evidence).where(which))).rowcount
            await act.done("cache.trust", tenant or "*", {**told, "places": count}, Change(CACHE_TRUST))
        return int(count)

    async def pairs(self, tenant: str | None = None) -> list[CheckedPair]:
        """What checks have decided, as far as the questions were kept, of one tenant where that is given; older first.

        It may take a minute: nobody waits for it but who has asked for it.
        """
        table = cache_label.c
        told = (table.asked, table.cached, table.verdict, table.topic, table.calibration, table.share, table.score)
        wanted = (
            select(*told)
            .where(table.asked.is_not(None), table.cached.is_not(None), table.verdict.in_(("same", "different")))
            .order_by(table.at, table.id)
        )
        if tenant is not None:
            wanted = wanted.where(table.tenant == clean(tenant))
        rows = await self._all(wanted, READ_ALL_S)
        return [
            CheckedPair(row.asked, row.cached, row.verdict == "same", row.topic, row.calibration, row.share, row.score)
            for row in rows
        ]

    @asynccontextmanager
    async def _acting(self, actor: str) -> AsyncIterator[Act]:
        with asking():
            async with asyncio.timeout(TIMEOUT_S), acting(self._engine, actor) as act:
                yield act

    async def _all(self, wanted: Any, timeout_s: float = TIMEOUT_S) -> Collection[Row[Any]]:
        with asking():
            async with asyncio.timeout(timeout_s), self._engine.connect() as connection:
                rows: Collection[Row[Any]] = (await connection.execute(wanted)).all()
                return rows

    async def _is_new(self, connection: AsyncConnection, calibration: str, label: Label) -> bool:
        """Whether a label was not there before; it is then."""
        place = label.place
        row = {
            "id": label.id,
            "at": label.at,
            "tenant": clean(place.tenant),
            "topic": place.topic,
            "verdict": label.verdict,
            "end_user": _cut(label.end_user, MAX_NAME_CHARS),
            "asked": _cut(label.asked, MAX_TEXT_CHARS),
            "cached": _cut(label.cached, MAX_TEXT_CHARS),
            "calibration": calibration,
            "share": place.share,
            "score": label.score,
        }
        said = self._insert(cache_label).values(row).on_conflict_do_nothing()
        return bool((await connection.execute(said)).rowcount)

    async def _sum(self, connection: AsyncConnection, calibration: str, place: Place, more: Mapping[str, int]) -> Sums:
        table = cache_evidence.c
        row = {name: more.get(name, 0) for name in _COUNTS}
        keys = {"calibration": calibration, "tenant": clean(place.tenant), "topic": place.topic, "share": place.share}
        said = self._insert(cache_evidence).values({**keys, **row})
        grown = {name: table[name] + count for name, count in row.items() if count}
        said = said.on_conflict_do_update(index_elements=list(keys), set_=grown or {"hits": table.hits})
        return _sums((await connection.execute(said.returning(cache_evidence))).one())


def _at(calibration: str, place: Place) -> ColumnElement[bool]:
    table = cache_evidence.c
    return (
        (table.calibration == calibration)
        & (table.tenant == clean(place.tenant))
        & (table.topic == place.topic)
        & (table.share == place.share)
    )


def _sums(row: Row[Any]) -> Sums:
    return Sums(row.hits, row.reported, row.same, row.different, row.undecided, row.closed_at)


def _cut(text: str | None, most: int) -> str | None:
    return None if text is None else clean(text[:most])
