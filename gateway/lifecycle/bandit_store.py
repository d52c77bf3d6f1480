"""What bandits have learned, in SQL: each feedback is learned once, by whichever process comes first, in any order.

Knows no router but by the context that it gives to an embedding; must not know where decisions are made.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import time
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, Select, and_, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import asking
from gateway.ledger.tables import bandit_lesson, bandit_state, feedback, request_log
from routers.bandit_state import Doubles, Tally, lesson, merged, packed, unpacked

TIMEOUT_S: Final = 5.0
BATCH_ROWS: Final = 200
# The row that learners queue at; no bandit has this name.
_GUARD: Final = {"learner": "", "model": "", "sums": b"", "revision": 0}
# Feedback that older decisions got weighs less than a thousandth.
_HALF_LIVES: Final = 10.0


class Learner(Protocol):
    """What is needed of a bandit."""

    learner: str

    @property
    def half_life_s(self) -> float:
        """In which a feedback loses half its weight."""

    @property
    def embedder(self) -> str:
        """Whose vectors it can read."""

    def context_of(self, embedding: npt.NDArray[np.float32] | None) -> Doubles:
        """[d] of an embedding, of none where there is none."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many feedbacks were learned, and that none is left that was said before `upto` (Unix seconds)."""

    learned: int
    upto: float
    more: bool


class BanditStore:
    """The sums of each learner and model, and which feedbacks are in them. Raises `DatabaseUnavailable`."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time) -> None:
        self._engine = engine
        self._now = now
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    async def learn(self, learners: Mapping[str, Learner], since: float) -> Progress:
        """Add a batch of what was said at `since` or later and is not in the sums yet; others may do so meanwhile.

        A score that was changed is learned anew in place of the old one. Sums and the note of what is in them change
        together or not at all.
        """
        oldest = self._now() - _HALF_LIVES * max(one.half_life_s for one in learners.values())
        wanted = _unlearned(since, oldest)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                # By the clocks of those who said it, which need not go as ours; and first, since more comes meanwhile.
                newest = float(await connection.scalar(select(func.max(feedback.c.at))) or 0.0)
                waiting = (await connection.execute(wanted)).all()
            if not waiting:
                return Progress(0, max(since, newest), more=False)
            async with asyncio.timeout(TIMEOUT_S), writing(self._engine).begin() as connection:
                await self._queue(connection)
                rows = (await connection.execute(wanted)).all()
                learned = await self._take_in(connection, rows, learners)
        if len(waiting) < BATCH_ROWS:
            return Progress(learned, max(since, newest), more=False)
        return Progress(learned, float(waiting[-1].said_at), more=True)

    async def learned_upto(self, learners: Collection[str]) -> float:
        """When the newest feedback was said that all of these have learned from; 0 where one has learned nothing."""
        said, learned = feedback.c, bandit_lesson.c
        same = and_(learned.request_id == said.request_id, learned.source == said.source, learned.score == said.score)
        newest = select(said.at).order_by(said.at.desc()).limit(1)
        found = []
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                for name in learners:
                    heard = exists().where(same, learned.learner == name)
                    found.append(float(await connection.scalar(newest.where(heard)) or 0.0))
        return min(found)

    async def read(self, learner: str, after: int) -> tuple[int, dict[str, Tally]]:
        """The sums that changed since a revision, by model, and the newest revision."""
        wanted = select(bandit_state).where(bandit_state.c.learner == learner, bandit_state.c.revision > after)
        with asking():
            async with asyncio.timeout(TIMEOUT_S), self._engine.connect() as connection:
                rows = (await connection.execute(wanted)).all()
        newest = max((int(row.revision) for row in rows), default=after)
        return newest, {row.model: unpacked(row.sums) for row in rows}

    async def _queue(self, connection: AsyncConnection) -> None:
        """Wait until nobody else is adding."""
        await connection.execute(self._insert(bandit_state).values(_GUARD).on_conflict_do_nothing())
        await connection.execute(
            select(bandit_state.c.revision)
            .where(bandit_state.c.learner == "", bandit_state.c.model == "")
            .with_for_update()
        )

    async def _take_in(
        self, connection: AsyncConnection, rows: Sequence[Row[Any]], learners: Mapping[str, Learner]
    ) -> int:
        taught: dict[tuple[str, str], list[Tally]] = {}
        notes: list[dict[str, Any]] = []
        known = await _learned(connection, {row.request_id for row in rows})
        for row in rows:
            learner = _learner_of(row, learners)
            if learner is None or not math.isfinite(row.score):
                continue
            scores = known.setdefault(row.request_id, {})
            heard = _lesson(row, learner, scores)
            if heard is not None:
                taught.setdefault((learner.learner, str(row.model)), []).append(heard)
            scores[row.source] = row.score
            notes.append(
                {
                    "request_id": row.request_id,
                    "source": row.source,
                    "learner": learner.learner,
                    "score": row.score,
                }
            )
        for (name, model), tallies in sorted(taught.items(), key=lambda pair: pair[0]):
            await self._add(connection, learners[name], model, tallies)
        for note in notes:
            said = self._insert(bandit_lesson).values(note)
            keys = ["request_id", "source"]
            await connection.execute(said.on_conflict_do_update(index_elements=keys, set_={"score": note["score"]}))
        return len(notes)

    async def _add(self, connection: AsyncConnection, learner: Learner, model: str, tallies: list[Tally]) -> None:
        table = bandit_state.c
        known = await connection.scalar(
            select(table.sums).where(table.learner == learner.learner, table.model == model)
        )
        before = [unpacked(known)] if known is not None else []
        newest = select(func.coalesce(func.max(table.revision), 0) + 1).scalar_subquery()
        sums = packed(merged([*before, *tallies], learner.half_life_s))
        row = {"learner": learner.learner, "model": model, "sums": sums, "revision": newest}
        said = self._insert(bandit_state).values(row)
        newer = {"sums": sums, "revision": newest}
        await connection.execute(said.on_conflict_do_update(index_elements=["learner", "model"], set_=newer))


def _unlearned(since: float, oldest: float) -> Select[Any]:
    """What was said, on which decision, and what of it is learned already; oldest words first.

    Answers that several calls made together are left out: no single model is to be praised for them. Lessons are looked
    up before the log, whose rows are large: nearly all that was said is learned.
    """
    said, log, learned = feedback.c, request_log.c, bandit_lesson.c
    same = and_(learned.request_id == said.request_id, learned.source == said.source)
    return (
        select(
            said.request_id,
            said.source,
            said.score,
            said.at.label("said_at"),
            log.at,
            log.model,
            log.endpoint,
            log.decision,
            log.embedding,
            log.embedder,
        )
        .select_from(feedback.outerjoin(bandit_lesson, same).join(request_log, log.id == said.request_id))
        .where(
            said.at >= max(since, oldest),
            log.at >= oldest,
            log.router_kind.in_(("bandit", "pinned")),
            or_(log.strategy.is_(None), log.strategy == "single"),
            or_(learned.score.is_(None), learned.score != said.score),
        )
        .order_by(said.at, said.request_id, said.source)
        .limit(BATCH_ROWS)
    )


def _entry(row: Row[Any]) -> Mapping[str, Any]:
    """What was foretold of the endpoint that answered."""
    ranking = row.decision if isinstance(row.decision, list) else []
    return next((one for one in ranking if one.get("endpoint") == row.endpoint), {})


def _learner_of(row: Row[Any], learners: Mapping[str, Learner]) -> Learner | None:
    return learners.get(str(_entry(row).get("learner")))


async def _learned(connection: AsyncConnection, request_ids: Collection[str]) -> dict[str, dict[str, float]]:
    """The scores that are in the sums, by request and source."""
    table = bandit_lesson.c
    wanted = select(table.request_id, table.source, table.score).where(table.request_id.in_(request_ids))
    found: dict[str, dict[str, float]] = {}
    for row in (await connection.execute(wanted)).all():
        found.setdefault(row.request_id, {})[row.source] = row.score
    return found


def _lesson(row: Row[Any], learner: Learner, scores: Mapping[str, float]) -> Tally | None:
    """What the feedback adds to the sums; `scores` of the same request, by source, are in them.

    A request teaches the mean of what its sources say, once, however many they are: a further word on it, or another
    word of the same source, adds what it changes of that mean. None where the sums would be no numbers any more.
    """
    foretold = _entry(row).get("prior_quality")
    if foretold is None:
        return None
    embedding = None
    if row.embedding is not None and row.embedder == learner.embedder:
        embedding = np.frombuffer(row.embedding, dtype=np.float16).astype(np.float32)
    context = learner.context_of(embedding)
    mean = fmean({**scores, row.source: row.score}.values())
    if not math.isfinite(foretold) or not np.isfinite(context).all():
        return None
    if not scores:
        return lesson(context, mean - foretold, row.at)
    return Tally(row.at, 0.0, np.zeros((len(context), len(context))), (mean - fmean(scores.values())) * context)
