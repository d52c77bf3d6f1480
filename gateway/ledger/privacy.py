"""Forgetting what people have said: by age, or all of one end user. Numbers stay, since money was spent on them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.faults import DatabaseUnavailable, asking
from gateway.ledger.rollup import forget_fine
from gateway.ledger.tables import cache_label, feedback, request_log, stored_response

log = logging.getLogger(__name__)

BATCH_ROWS: Final = 1_000
NAME_CHARS: Final = 200  # what the log keeps of a name
SWEEP_EVERY_S: Final = 3600.0
_NOTHING: Final[dict[str, Any]] = {"prompt": None, "answer": None, "embedding": None}


@dataclass(frozen=True, slots=True)
class Erased:
    """How many requests lost their texts, and how many stored conversations are gone."""

    requests: int
    conversations: int


async def erase_user(engine: AsyncEngine, end_user: str) -> Erased:
    """Remove prompts, answers, embeddings, sessions and the name itself from all requests of an end user, what was
    said of the answers, and their stored conversations. Raises `DatabaseUnavailable`."""
    theirs = request_log.c.end_user == end_user[:NAME_CHARS]
    # First, since afterwards nothing tells whose requests they were.
    await _blank_comments(engine, feedback.c.request_id.in_(select(request_log.c.id).where(theirs)))
    await _remove_labels(engine, cache_label.c.end_user == end_user[:NAME_CHARS])
    requests = await _blank(engine, theirs, {**_NOTHING, "session": None, "end_user": None, "trial_unit": None})
    with asking():
        async with writing(engine).begin() as connection:
            gone = await connection.execute(delete(stored_response).where(stored_response.c.end_user == end_user))
    return Erased(requests, int(gone.rowcount))


async def forget_before(engine: AsyncEngine, at: float) -> int:
    """Remove texts and embeddings of requests before a moment (Unix seconds). Raises `DatabaseUnavailable`."""
    kept = or_(
        request_log.c.prompt.is_not(None), request_log.c.answer.is_not(None), request_log.c.embedding.is_not(None)
    )
    await _blank_comments(engine, feedback.c.at < at)
    await _remove_labels(engine, cache_label.c.at < at)
    return await _blank(engine, (request_log.c.at < at) & kept, _NOTHING)


async def forget_expired_responses(engine: AsyncEngine, now: float) -> int:
    """Remove stored conversations that have expired. Raises `DatabaseUnavailable`."""
    with asking():
        async with writing(engine).begin() as connection:
            gone = await connection.execute(delete(stored_response).where(stored_response.c.expires_at < now))
    return int(gone.rowcount)


async def forget_fine_usage(engine: AsyncEngine, now: float) -> int:
    """Remove sums of five minutes that hours tell as well. Raises `DatabaseUnavailable`."""
    with asking():
        async with writing(engine).begin() as connection:
            return await connection.run_sync(forget_fine, now)


async def sweep(engine: AsyncEngine, retention_days: float | None) -> None:
    """Forget by age, for ever; a database that is away is asked again later."""
    while True:
        now = time.time()
        try:
            await forget_expired_responses(engine, now)
            await forget_fine_usage(engine, now)
            if retention_days is not None:
                await forget_before(engine, now - retention_days * 86_400)
        except DatabaseUnavailable as error:
            log.warning("old texts could not be removed yet: %s", error)
        await asyncio.sleep(SWEEP_EVERY_S)


async def _blank_comments(engine: AsyncEngine, which: ColumnElement[bool]) -> None:
    """Scores stay: they are figures."""
    with asking():
        async with writing(engine).begin() as connection:
            said = feedback.c.comment.is_not(None)
            await connection.execute(update(feedback).where(said & which).values(comment=None))


async def _remove_labels(engine: AsyncEngine, which: ColumnElement[bool]) -> None:
    """Questions that cached answers were checked with; what the checks showed is summed up elsewhere."""
    with asking():
        async with writing(engine).begin() as connection:
            await connection.execute(delete(cache_label).where(which))


async def _blank(engine: AsyncEngine, which: ColumnElement[bool], values: dict[str, Any]) -> int:
    """In small transactions, so that the ledger never waits long for its turn."""
    count = 0
    while True:
        batch = select(request_log.c.id).where(which).limit(BATCH_ROWS).scalar_subquery()
        with asking():
            async with writing(engine).begin() as connection:
                done = await connection.execute(update(request_log).where(request_log.c.id.in_(batch)).values(**values))
        count += int(done.rowcount)
        if done.rowcount < BATCH_ROWS:
            return count
