"""Feedback on both databases: kept once for each source, found by time, and forgotten where it holds words."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger import privacy
from gateway.ledger.engine import writing
from gateway.ledger.feedback import Asked, Feedback, FeedbackStore
from gateway.ledger.tables import api_key, request_log

GOOD = Feedback("req_1", "user", 1.0, "key_1", "thank you")


async def _logged(engine: AsyncEngine, name: str, **fields: object) -> None:
    async with writing(engine).begin() as connection:
        await connection.execute(insert(request_log).values(id=name, route="chat", **{"at": 5.0, **fields}))


async def _said(engine: AsyncEngine) -> list[tuple[str, str, float, str | None]]:
    return [(one.request_id, one.source, one.score, one.comment) for one in await FeedbackStore(engine).since(0, 100)]


async def test_the_last_word_of_a_source_counts_and_sources_do_not_touch_each_other(engine: AsyncEngine) -> None:
    store = FeedbackStore(engine)

    for one in (GOOD, GOOD, replace(GOOD, source="judge", score=0.5), replace(GOOD, score=0.0, comment=None)):
        await store.put(one)

    assert sorted(await _said(engine)) == [("req_1", "judge", 0.5, "thank you"), ("req_1", "user", 0.0, None)]


async def test_what_was_said_since_a_moment_comes_oldest_first_and_bounded(engine: AsyncEngine) -> None:
    times = iter((30.0, 10.0, 20.0))
    store = FeedbackStore(engine, now=lambda: next(times))
    for name in ("late", "early", "between"):
        await store.put(replace(GOOD, request_id=name))

    assert [one.request_id for one in await store.since(20.0, 10)] == ["between", "late"]
    assert [one.at for one in await store.since(0, 1)] == [10.0]


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
