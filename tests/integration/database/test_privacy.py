"""What is forgotten, and what stays, on both databases."""

from __future__ import annotations

import time

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger import privacy
from gateway.ledger.engine import writing
from gateway.ledger.tables import request_log, stored_response

NOW = 1_800_000_000.0


async def _log(engine: AsyncEngine, name: str, user: str | None, at: float = NOW) -> None:
    row = {"id": name, "at": at, "route": "chat", "end_user": user, "prompt": "secret", "answer": "told",
           "embedding": b"xx", "session": "s", "input_tokens": 5, "cost_nanousd": 7}  # fmt: skip
    async with writing(engine).begin() as connection:
        await connection.execute(insert(request_log).values(**row))


async def _rows(engine: AsyncEngine) -> dict[str, tuple[object, ...]]:
    columns = request_log.c
    wanted = select(
        columns.id, columns.end_user, columns.prompt, columns.answer, columns.embedding, columns.cost_nanousd
    )
    async with engine.connect() as connection:
        return {row[0]: tuple(row[1:]) for row in await connection.execute(wanted)}


async def test_one_user_s_words_go_and_the_figures_stay(engine: AsyncEngine) -> None:
    for number in range(3):
        await _log(engine, f"ada{number}", "ada")
    await _log(engine, "bob", "bob")

    erased = await privacy.erase_user(engine, "ada")

    rows = await _rows(engine)
    assert erased.requests == 3
    assert rows["ada0"] == (None, None, None, None, 7)
    assert rows["bob"] == ("bob", "secret", "told", b"xx", 7)


async def test_more_than_one_batch_is_erased(engine: AsyncEngine) -> None:
    rows = [{"id": f"r{number}", "at": NOW, "route": "chat", "end_user": "ada"} for number in range(2_300)]
    async with writing(engine).begin() as connection:
        await connection.execute(insert(request_log), rows)

    assert (await privacy.erase_user(engine, "ada")).requests == 2_300


async def test_old_texts_are_forgotten_and_young_ones_kept(engine: AsyncEngine) -> None:
    await _log(engine, "old", "ada", NOW - 10)
    await _log(engine, "young", "ada", NOW + 10)

    assert await privacy.forget_before(engine, NOW) == 1

    rows = await _rows(engine)
    assert rows["old"] == ("ada", None, None, None, 7)
    assert rows["young"][1] == "secret"
    assert await privacy.forget_before(engine, NOW) == 0


async def test_conversations_go_with_their_user_or_when_they_expire(engine: AsyncEngine) -> None:
    base = {"key_id": "k", "created_at": NOW, "body": "{}", "items": "[]"}
    rows = [
        {"id": "resp_a", "end_user": "ada", "expires_at": time.time() + 100, **base},
        {"id": "resp_b", "end_user": None, "expires_at": time.time() - 100, **base},
        {"id": "resp_c", "end_user": "bob", "expires_at": time.time() + 100, **base},
    ]
    async with writing(engine).begin() as connection:
        await connection.execute(insert(stored_response), rows)

    assert (await privacy.erase_user(engine, "ada")).conversations == 1
    assert await privacy.forget_expired_responses(engine, time.time()) == 1

    async with engine.connect() as connection:
        assert [row.id for row in await connection.execute(select(stored_response.c.id))] == ["resp_c"]
