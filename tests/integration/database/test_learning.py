"""Two workers with a bandit each: what one hears both forecast by, and late feedback is learned when it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.feedback import Feedback, FeedbackStore
from gateway.ledger.inserts import Inserter
from gateway.ledger.rows import to_row
from gateway.lifecycle.bandit_store import BanditStore, Learner, Progress
from gateway.lifecycle.learning import OVERLAP_S, Lessons
from gateway.lifecycle.policy_store import ActivePolicy
from gateway.lifecycle.purse import Purse
from policies.schema import Policy
from routers.base import Router
from routers.kinds.bandit import Bandit, Beliefs
from routers.kinds.mean import MeanRouter
from routers.training.simulator import make_world, simulate
from tests.eventually import eventually
from tests.integration.database.ledgers import a_record

NOW = 1_700_100_000.0
SEEN = simulate(make_world(models=3, seed=1), 60, 1).dataset
MODEL = SEEN.models[1].id


@cache
def taught() -> Bandit:
    return Bandit.upon(MeanRouter.fit(SEEN), SEEN, 2, Beliefs(half_life_s=1e9, level_std=(0.3, 0.3)))


class Store(BanditStore):
    """Remembers from when on it was asked; fails with each of `faults` first."""

    def __init__(self, engine: AsyncEngine, now: float) -> None:
        super().__init__(engine, now=lambda: now)
        self.asked: list[float] = []
        self.faults: list[Exception] = []

    async def learn(self, learners: Mapping[str, Learner], since: float) -> Progress:
        self.asked.append(since)
        if self.faults:
            raise self.faults.pop(0)
        return await super().learn(learners, since)


class Worker:
    """A process' bandit under a policy that tries."""

    def __init__(self, engine: AsyncEngine, now: float = NOW) -> None:
        self.router = Bandit.from_artifact(taught().artifact)
        self.purse = Purse(engine, now=lambda: now)
        self.store = Store(engine, now)
        self.learning = Lessons(self.store, self.purse, lambda: [active(self.router)], every_s=0.01, now=lambda: now)

    @property
    def quality(self) -> float:
        """What it forecasts of the model that feedback is about, in the mean."""
        return float(self.router.predict(SEEN.inputs, SEEN.models[1:2]).quality.mean())


def active(router: Router) -> ActivePolicy:
    policy = Policy(schema=1, name="p", exploration=0.1)
    return ActivePolicy(policy, policy.sha256(), "test", router, cast(Any, None), ())


async def answered(engine: AsyncEngine, count: int, first: int = 0) -> None:
    """Requests that the model answered as the bandit had it."""
    entry = {"endpoint": "e", "model": MODEL, "prior_quality": 0.5, "learner": taught().learner}
    fields = {"router_kind": "bandit", "model": MODEL, "endpoint": "e", "embedder": SEEN.embedder, "decision": [entry]}
    records = [
        a_record(number, **fields, embedding=SEEN.inputs.embeddings[number].astype(np.float16).tobytes())
        for number in range(first, first + count)
    ]
    await Inserter(engine, 5.0).insert([to_row(one) for one in records])


async def judged(engine: AsyncEngine, count: int, score: float, at: float, first: int = 0) -> None:
    store = FeedbackStore(engine, now=lambda: at)
    for number in range(first, first + count):
        await store.put(Feedback(f"req_{number:06d}", "user", score, "key"))


async def test_both_workers_forecast_by_what_was_said(engine: AsyncEngine) -> None:
    one, other = Worker(engine), Worker(engine)
    before = one.quality
    await answered(engine, 20)
    await judged(engine, 20, 0.0, NOW - 10)

    await one.learning.step()
    await other.learning.step()

    assert one.quality == other.quality < before - 0.1
    assert (one.learning.learned, other.learning.learned) == (20, 0)


async def test_feedback_that_comes_later_is_learned_when_it_comes(engine: AsyncEngine) -> None:
    worker = Worker(engine)
    await answered(engine, 20)
    await judged(engine, 10, 0.0, NOW - 500)
    await worker.learning.step()
    halfway = worker.quality

    await judged(engine, 10, 0.0, NOW - 400, first=10)
    await worker.learning.step()

    assert worker.learning.learned == 20
    assert worker.quality < halfway


async def test_a_worker_that_starts_later_knows_what_was_learned(engine: AsyncEngine) -> None:
    first = Worker(engine)
    await answered(engine, 20)
    await judged(engine, 20, 1.0, NOW - 10)
    await first.learning.step()

    late = Worker(engine)
    await late.learning.step()

    assert late.quality == first.quality
    assert late.router.reason(cast(Any, None)).endswith("by 20 feedbacks.")


async def test_after_a_restart_only_what_was_said_since_is_looked_at(engine: AsyncEngine) -> None:
    first = Worker(engine)
    await answered(engine, 20)
    await judged(engine, 20, 1.0, NOW - 1_000)
    await first.learning.step()

    late = Worker(engine)
    await late.learning.step()
    await judged(engine, 1, 0.0, NOW - 900)
    await late.learning.step()
    await late.learning.step()

    assert first.store.asked == [-OVERLAP_S]
    assert late.store.asked == [NOW - 1_000 - OVERLAP_S, NOW - 1_000 - OVERLAP_S, NOW - 900 - OVERLAP_S]
    assert late.learning.learned == 1


async def test_where_nothing_can_be_learned_what_was_said_is_looked_at_once(engine: AsyncEngine) -> None:
    worker = Worker(engine)
    await judged(engine, 1, 1.0, NOW - 500)

    await worker.learning.step()
    await worker.learning.step()

    assert worker.store.asked == [-OVERLAP_S, NOW - 500 - OVERLAP_S]


async def test_a_worker_that_can_not_hear_knows_what_others_have_learned(engine: AsyncEngine) -> None:
    one, deaf = Worker(engine), Worker(engine)
    await answered(engine, 20)
    await judged(engine, 20, 0.0, NOW - 10)
    await one.learning.step()
    deaf.store.faults = [DatabaseUnavailable("locked")]

    with pytest.raises(DatabaseUnavailable):
        await deaf.learning.step()

    assert deaf.quality == one.quality


async def test_a_fault_of_our_own_is_told_once_and_does_not_end_the_lessons(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(engine)
    worker.store.faults = [RuntimeError("a bug")] * 3
    await answered(engine, 20)
    await judged(engine, 20, 0.0, NOW - 10)

    running = asyncio.create_task(worker.learning.run())
    await eventually(lambda: worker.learning.learned == 20 or running.done())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert worker.learning.learned == 20
    told = [one for one in caplog.records if "learn nothing for now: a bug" in one.getMessage()]
    assert len(told) == 1 and told[0].exc_info is not None


async def test_the_sums_are_those_of_one_worker_that_heard_everything(engine: AsyncEngine) -> None:
    workers = [Worker(engine) for _ in range(3)]
    for turn, worker in enumerate(workers):
        await answered(engine, 5, first=5 * turn)
        await judged(engine, 5, turn / 2, NOW - 100 + turn, first=5 * turn)
        await worker.learning.step()

    _, sums = await BanditStore(engine).read(taught().learner, 0)

    contexts = taught().contexts(SEEN.inputs.embeddings[:15].astype(np.float16).astype(np.float32))
    residuals = np.repeat([0.0, 0.5, 1.0], 5) - 0.5
    assert sums[MODEL].gram == pytest.approx(contexts.T @ contexts, rel=1e-5)
    assert sums[MODEL].moment == pytest.approx(contexts.T @ residuals, rel=1e-5, abs=1e-6)


async def test_a_worker_whose_policy_tries_has_money_for_it(engine: AsyncEngine) -> None:
    worker = Worker(engine)

    await worker.learning.step()

    assert worker.purse.left("p") == 10**9 // 20


async def test_without_a_bandit_the_database_is_not_asked(engine: AsyncEngine) -> None:
    policies = [active(cast(Any, object()))]
    learning = Lessons(cast(Any, None), cast(Any, None), lambda: policies)

    await learning.step()

    assert learning.learned == 0
