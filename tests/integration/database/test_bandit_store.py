"""Late feedback becomes sums, once, in both databases, whoever hears it and in whichever order it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.feedback import Feedback, FeedbackStore
from gateway.ledger.inserts import Inserter
from gateway.ledger.privacy import erase_user
from gateway.ledger.record import Record
from gateway.ledger.rows import to_row
from gateway.ledger.tables import bandit_lesson
from gateway.lifecycle.bandit_store import BATCH_ROWS, BanditStore
from routers.bandit_state import Doubles, Tally
from tests.integration.database.ledgers import a_record

NOW = 1_700_100_000.0


class TwoNumbers:
    """A learner whose context is 1 and the embedding's first number."""

    learner = "one"
    half_life_s = 1e9
    embedder = "e"

    def context_of(self, embedding: npt.NDArray[np.float32] | None) -> Doubles:
        return np.array([1.0, 0.0 if embedding is None else float(embedding[0])])


LEARNERS = {"one": TwoNumbers()}


def decided(number: int, first: float = 0.5, **changes: Any) -> Record:
    """A request of a bandit that foretold 0.6 before it learned."""
    told = {"endpoint": "local-smollm2", "model": "smollm2-135m", "prior_quality": 0.6, "learner": "one"}
    fields = {
        "router_kind": "bandit",
        "decision": [{"endpoint": "other", "prior_quality": 0.1, "learner": "one"}, told],
        "embedding": np.array([first, 9.0], dtype=np.float16).tobytes(),
        "embedder": "e",
        **changes,
    }
    return a_record(number, **fields)


async def keep(engine: AsyncEngine, records: Sequence[Record]) -> None:
    outcome = await Inserter(engine, 5.0).insert([to_row(one) for one in records])
    assert outcome.kept == len(records)


async def say(engine: AsyncEngine, number: int, score: float, source: str = "user", at: float = NOW) -> None:
    store = FeedbackStore(engine, now=lambda: at)
    await store.put(Feedback(f"req_{number:06d}", source, score, "key"))


def store(engine: AsyncEngine) -> BanditStore:
    return BanditStore(engine, now=lambda: NOW)


async def sums(engine: AsyncEngine) -> dict[str, Tally]:
    return (await store(engine).read("one", 0))[1]


async def test_a_feedback_is_learned_once_with_what_was_known_when_it_was_decided(engine: AsyncEngine) -> None:
    await keep(engine, [decided(1)])
    await say(engine, 1, 1.0)

    progress = await store(engine).learn(LEARNERS, 0.0)
    again = await store(engine).learn(LEARNERS, 0.0)

    assert (progress.learned, progress.upto, again.learned) == (1, NOW, 0)
    (tally,) = (await sums(engine)).values()
    assert tally.count == 1
    assert tally.moment == pytest.approx(np.array([1.0, 0.5]) * 0.4)
    assert tally.gram == pytest.approx(np.outer([1.0, 0.5], [1.0, 0.5]))


async def test_a_changed_score_takes_the_place_of_the_old_one(engine: AsyncEngine) -> None:
    await keep(engine, [decided(1)])
    await say(engine, 1, 1.0)
    await store(engine).learn(LEARNERS, 0.0)

    await say(engine, 1, 0.2, at=NOW + 5)
    await store(engine).learn(LEARNERS, 0.0)

    (tally,) = (await sums(engine)).values()
    assert tally.count == 1
    assert tally.moment == pytest.approx(np.array([1.0, 0.5]) * -0.4)


async def test_the_order_of_feedback_changes_nothing(engine: AsyncEngine) -> None:
    await keep(engine, [decided(number, number / 10) for number in range(6)])
    for number in (4, 0, 5):
        await say(engine, number, 1.0)
    await store(engine).learn(LEARNERS, 0.0)
    for number in (2, 1, 3):
        await say(engine, number, 1.0, at=NOW - 50)
    await store(engine).learn(LEARNERS, 0.0)

    (tally,) = (await sums(engine)).values()

    contexts = np.array([[1.0, np.float16(number / 10)] for number in range(6)])
    assert tally.at == a_record(5).at
    assert tally.gram == pytest.approx(contexts.T @ contexts, rel=1e-6)
    assert tally.moment == pytest.approx(0.4 * contexts.sum(axis=0), rel=1e-6)


async def test_many_learners_at_once_learn_each_feedback_once(engine: AsyncEngine) -> None:
    await keep(engine, [decided(number) for number in range(BATCH_ROWS)])
    for number in range(BATCH_ROWS):
        await say(engine, number, 1.0)

    progress = await asyncio.gather(*(store(engine).learn(LEARNERS, 0.0) for _ in range(4)))

    assert sum(one.learned for one in progress) == BATCH_ROWS
    (tally,) = (await sums(engine)).values()
    assert tally.count == pytest.approx(BATCH_ROWS, rel=1e-6)


async def test_only_what_changed_since_is_read(engine: AsyncEngine) -> None:
    await keep(engine, [decided(1), decided(2, model="other-model")])
    await say(engine, 1, 1.0)
    await store(engine).learn(LEARNERS, 0.0)
    first, all_of_it = await store(engine).read("one", 0)
    await say(engine, 2, 1.0)
    await store(engine).learn(LEARNERS, 0.0)

    second, changed = await store(engine).read("one", first)

    assert list(all_of_it) == ["smollm2-135m"] and list(changed) == ["other-model"]
    assert second > first
    assert await store(engine).read("one", second) == (second, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"router_kind": "rules"},
        {"strategy": "vote"},
        {"at": NOW - 11e9},
        {"decision": [{"endpoint": "local-smollm2", "prior_quality": 0.6, "learner": "another"}]},
        {"decision": None},
    ],
    ids=["not a bandit's", "of several calls", "too old", "another's", "nothing logged"],
)
async def test_what_teaches_nothing_is_passed_by(engine: AsyncEngine, changes: dict[str, Any]) -> None:
    await keep(engine, [decided(1, **changes)])
    await say(engine, 1, 1.0)

    await store(engine).learn(LEARNERS, 0.0)

    assert await sums(engine) == {}
    async with engine.connect() as connection:
        assert (await connection.execute(select(bandit_lesson))).all() == []


@pytest.mark.parametrize("changes", [{"embedding": None}, {"embedder": "another"}])
async def test_without_a_readable_embedding_the_level_is_learned(engine: AsyncEngine, changes: dict[str, Any]) -> None:
    await keep(engine, [decided(1, **changes)])
    await say(engine, 1, 1.0)
    await store(engine).learn(LEARNERS, 0.0)

    (tally,) = (await sums(engine)).values()

    assert tally.moment == pytest.approx([0.4, 0.0])


async def test_a_request_teaches_the_mean_of_its_sources_once(engine: AsyncEngine) -> None:
    await keep(engine, [decided(1)])
    await say(engine, 1, 1.0)
    await store(engine).learn(LEARNERS, 0.0)
    await say(engine, 1, 0.0, source="tests")
    await say(engine, 1, 0.2, source="judge")
    await store(engine).learn(LEARNERS, 0.0)
    await say(engine, 1, 0.6, source="tests")
    await store(engine).learn(LEARNERS, 0.0)

    (tally,) = (await sums(engine)).values()

    assert tally.count == 1
    assert tally.gram == pytest.approx(np.outer([1.0, 0.5], [1.0, 0.5]))
    assert tally.moment == pytest.approx(np.array([1.0, 0.5]) * ((1.0 + 0.6 + 0.2) / 3 - 0.6))


@pytest.mark.parametrize("changes", [{"first": np.nan}, {"prior": np.nan}], ids=["no context", "nothing foretold"])
async def test_what_is_no_number_never_gets_into_the_sums(engine: AsyncEngine, changes: dict[str, float]) -> None:
    told = {"endpoint": "local-smollm2", "learner": "one", "prior_quality": changes.get("prior", 0.6)}
    await keep(engine, [decided(1, changes.get("first", 0.5), decision=[told]), decided(2)])
    await say(engine, 1, 1.0)
    await say(engine, 2, 1.0)

    await store(engine).learn(LEARNERS, 0.0)

    (tally,) = (await sums(engine)).values()
    assert tally.count == 1 and np.isfinite(tally.moment).all()


async def test_a_learner_knows_how_far_it_has_heard(engine: AsyncEngine) -> None:
    await keep(engine, [decided(1), decided(2), decided(3)])
    await say(engine, 1, 1.0, at=NOW - 30)
    await say(engine, 2, 1.0, at=NOW - 20)
    await store(engine).learn(LEARNERS, 0.0)
    await say(engine, 3, 1.0, at=NOW - 10)
    await say(engine, 2, 0.0, at=NOW - 5)

    assert await store(engine).learned_upto(["one"]) == NOW - 30
    assert await store(engine).learned_upto(["one", "another"]) == 0.0
    assert (await store(engine).learn(LEARNERS, NOW - 30)).learned == 2
    assert await store(engine).learned_upto(["one"]) == NOW - 5


async def test_what_an_erased_user_said_is_not_learned_again(engine: AsyncEngine) -> None:
    await keep(engine, [decided(1, end_user="ada")])
    await say(engine, 1, 1.0)
    await store(engine).learn(LEARNERS, 0.0)
    before = await sums(engine)

    await erase_user(engine, "ada")
    again = await store(engine).learn(LEARNERS, 0.0)

    assert again.learned == 0
    assert (await sums(engine))["smollm2-135m"].count == before["smollm2-135m"].count == 1
