"""Feedback on both databases: kept once for each source, bounded in number, and forgotten where it holds words."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger import privacy
from gateway.ledger.engine import writing
from gateway.ledger.feedback import MOST_SOURCES, Asked, Feedback, FeedbackStore
from gateway.ledger.tables import api_key, feedback, request_log

GOOD = Feedback("req_1", "user", 1.0, "key_1", "thank you")


async def _logged(engine: AsyncEngine, name: str, **fields: object) -> None:
    async with writing(engine).begin() as connection:
        await connection.execute(insert(request_log).values(id=name, route="chat", **{"at": 5.0, **fields}))


async def _said(engine: AsyncEngine) -> list[tuple[str, str, float, str | None]]:
    said = feedback.c
    async with engine.connect() as connection:
        found = await connection.execute(
            select(said.request_id, said.source, said.score, said.comment).order_by(said.at)
        )
        return [tuple(row) for row in found]


async def test_the_last_word_of_a_source_counts_and_sources_do_not_touch_each_other(engine: AsyncEngine) -> None:
    store = FeedbackStore(engine)

    for one in (GOOD, GOOD, replace(GOOD, source="judge", score=0.5), replace(GOOD, score=0.0, comment=None)):
        await store.put(one)

    assert sorted(await _said(engine)) == [("req_1", "judge", 0.5, "thank you"), ("req_1", "user", 0.0, None)]


async def test_a_request_has_a_bounded_number_of_sources_and_those_may_judge_again(engine: AsyncEngine) -> None:
    store = FeedbackStore(engine, now=lambda: 7.0)

    kept = [await store.put(replace(GOOD, source=f"judge {number}")) for number in range(MOST_SOURCES + 2)]
    again = await store.put(replace(GOOD, source="judge 0", score=0.0))
    elsewhere = await store.put(replace(GOOD, request_id="req_2", source="judge 9"))

    assert kept == [7.0] * MOST_SOURCES + [None, None]
    assert (again, elsewhere) == (7.0, 7.0)
    assert len(await _said(engine)) == MOST_SOURCES + 1


async def test_many_new_sources_at_once_do_not_pass_the_bound(engine: AsyncEngine) -> None:
    await _logged(engine, "req_1")
    store = FeedbackStore(engine, timeout_s=20.0)

    kept = await asyncio.gather(*(store.put(replace(GOOD, source=f"judge {one}")) for one in range(2 * MOST_SOURCES)))

    assert sum(at is not None for at in kept) == len(await _said(engine)) == MOST_SOURCES


async def test_whose_request_it_was_follows_a_rotated_key_to_its_root(engine: AsyncEngine) -> None:
    key = {"id": "key_2", "sha256": "x", "name": "n", "role": "application", "created_at": 0, "metadata": {}}
    async with writing(engine).begin() as connection:
        await connection.execute(insert(api_key).values(**key, root_id="key_1"))
    await _logged(engine, "new", key_id="key_2", policy="default")
    await _logged(engine, "gone", key_id="key_9")
    store = FeedbackStore(engine)

    assert await store.asked("new") == Asked("key_1", None, "default")
    assert await store.asked("gone") == Asked("key_9", None, None)
    assert await store.asked("nothing") is None


async def test_what_no_database_takes_is_made_storable(engine: AsyncEngine) -> None:
    store = FeedbackStore(engine)

    await store.put(replace(GOOD, source="a\0b", comment="\ud800"))

    assert (await _said(engine))[0][1:] == ("a\ufffdb", 1.0, "\ufffd")
    assert await store.asked("\0") is None


async def test_an_erased_user_s_comments_go_and_the_scores_stay(engine: AsyncEngine) -> None:
    await _logged(engine, "req_1", end_user="ada")
    await _logged(engine, "req_2", end_user="bob")
    for name in ("req_1", "req_2"):
        await FeedbackStore(engine).put(replace(GOOD, request_id=name))

    await privacy.erase_user(engine, "ada")

    assert sorted(await _said(engine)) == [("req_1", "user", 1.0, None), ("req_2", "user", 1.0, "thank you")]


async def test_old_comments_are_forgotten_with_old_prompts(engine: AsyncEngine) -> None:
    await FeedbackStore(engine, now=lambda: 10.0).put(GOOD)
    await FeedbackStore(engine, now=lambda: 30.0).put(replace(GOOD, request_id="req_2"))

    await privacy.forget_before(engine, 20.0)

    assert [said[3] for said in await _said(engine)] == [None, "thank you"]
