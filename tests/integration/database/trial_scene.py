"""Two processes on one database, a policy with a draft, and a clock that goes on when a test says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.build import build
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record, ShadowDecision
from gateway.ledger.rows import to_rows
from gateway.ledger.schema import upgrade
from gateway.lifecycle.trials.assignment import Arm, UnitKind
from gateway.lifecycle.trials.desk import Wish
from gateway.lifecycle.trials.holding import EvidenceBook
from gateway.lifecycle.trials.reading import TrialReader
from gateway.lifecycle.trials.store import TrialStore
from gateway.lifecycle.trials.terms import Limits, Metric, Mode, Trial
from gateway.lifecycle.trials.watching import TrialWatch
from gateway.settings import Settings
from gateway.state import Gateway
from tests.integration.database.ledgers import a_record

POLICY = 'schema = 1\nname = "desk"\nmodels = ["*"]\n[router]\nkind = "rules"\n'
DRAFT = POLICY + "[fallback]\nretries = 0\n"
TOLERANCE = {Metric.ERRORS: 0.02, Metric.COST: 0.1}
LIMITS = Limits({}, window_s=1.0, settle_s=1.0, cost_cap_nanousd=10_000, min_units=100, unit=UnitKind.CALLER)
WISH = Wish("desk", 2, Mode.CANARY, 0.5, tolerance=TOLERANCE, limits=LIMITS)


class Clock:
    """Goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A process' gateway on the shared database; nothing runs by itself."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        engine, trials = gateway.engine, gateway.trials
        self.gateway, self.desk, self.book = gateway, trials.desk, trials.book
        self.store, self.reader = TrialStore(engine, clock), TrialReader(engine)
        self.evidence = EvidenceBook(engine, str(id(self)), clock)
        self.watch = TrialWatch(self.book, self.store, self.reader, self.evidence, self.desk, now=clock)

    async def step(self) -> None:
        await self.gateway.policies.refresh()
        await self.book.refresh()
        await self.watch.step()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def workers(database_url: str, tmp_path: Path, clock: Clock) -> AsyncIterator[list[Worker]]:
    """Two processes that serve version 1 of a policy; version 2 is a draft."""
    await asyncio.to_thread(upgrade, database_url)
    made = [build(Settings(data_dir=tmp_path / str(one), database_url=database_url)) for one in range(2)]
    await made[0].policies.load()
    await made[0].policy_desk.push("desk", POLICY, author="ann")
    await made[0].policy_desk.save("desk", DRAFT, author="ann", state="draft")
    await made[1].policies.load()
    yield [Worker(one, clock) for one in made]
    for one in made:
        await one.engine.dispose()


async def begun(worker: Worker, clock: Clock, **changes: Any) -> Trial:
    """A trial that began by the clock of the test."""
    limits = replace(LIMITS, **changes)
    trial = await worker.desk.start(replace(WISH, limits=limits), "ann")
    return await worker.store.change(trial.id, "trial.begin", actor="test", started_at=clock.now)


def served(trial: Trial, number: int, at: float, **changes: Any) -> Record:
    """A request of a unit of its own."""
    arm = Arm.CANARY if random.Random(number).random() < trial.share else Arm.CONTROL
    named = {"trial_id": trial.id, "trial_arm": arm, "trial_unit": f"{number:016x}", "trial_share": trial.share}
    return replace(a_record(number), **{"at": at, "policy": "desk", "cost_nanousd": 5000, **named, **changes})


async def stored(engine: AsyncEngine, records: Sequence[Record | ShadowDecision]) -> None:
    found = await Inserter(engine, 10.0).insert([row for one in records for row in to_rows(one)])
    assert found.refused == []


def traffic(trial: Trial, clock: Clock, count: int, fails: float) -> list[Record]:
    """Units that come within a second; the canary's fail more or less often."""
    dice, found = random.Random(0), []
    for number in range(count):
        one = served(trial, number, clock.now + 0.001 + number / count)
        failed = dice.random() < (fails if one.trial_arm == Arm.CANARY else 0.01)
        found.append(replace(one, status=502, cost_nanousd=None) if failed else one)
    return found
