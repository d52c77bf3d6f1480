"""The allowance for trying models is never passed, whoever takes of it; without the database nobody has any."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.record import Record
from gateway.lifecycle.purse import PARTS, Purse
from policies.schema import Learning, Policy
from routers.decision import Decision
from tests.fakes import FakeProvider
from tests.unit.gateway.dispatch.calls import decision, target

DAY_S = 86_400.0
DOLLAR = 10**9


def policy(exploration: float = 0.1, usd: float = 1.0) -> Policy:
    return Policy(schema=1, name="p", exploration=exploration, learning=Learning(max_extra_usd_per_day=usd))


async def drained(purse: Purse) -> int:
    """What a process gets out of a day if it spends all that it is given."""
    spent = 0
    for _ in range(2 * PARTS):
        await purse.refill([policy()])
        in_hand = purse.left("p")
        purse.spend("p", in_hand)
        spent += in_hand
    return spent


async def test_all_processes_together_never_pass_the_allowance(engine: AsyncEngine) -> None:
    spent = await asyncio.gather(*(drained(Purse(engine, now=lambda: 5.0)) for _ in range(4)))

    assert sum(spent) == DOLLAR


async def test_a_new_day_has_its_own_allowance_and_yesterdays_is_gone(engine: AsyncEngine) -> None:
    now = [5.0]
    purse = Purse(engine, now=lambda: now[0])
    await purse.refill([policy()])
    assert purse.left("p") == DOLLAR // PARTS

    now[0] += DAY_S

    assert purse.left("p") == 0
    assert await drained(purse) == DOLLAR


@pytest.mark.parametrize("without", [policy(exploration=0.0), policy(usd=0.0)])
async def test_who_tries_nothing_takes_nothing(engine: AsyncEngine, without: Policy) -> None:
    purse = Purse(engine)

    await purse.refill([without])

    assert purse.left("p") == purse.left("never heard of") == 0


async def test_without_the_database_nothing_is_taken() -> None:
    nowhere = open_engine("postgresql://nobody@127.0.0.1:9/nothing")
    purse = Purse(nowhere)

    with pytest.raises(DatabaseUnavailable):
        await purse.refill([policy()])

    assert purse.left("p") == 0
    await nowhere.dispose()


def _tries(day: list[float] | None = None) -> tuple[Purse, Decision, Record]:
    """A purse that does not need its database, and a decision to try the first of two models for 40 more."""
    nowhere = open_engine("postgresql://nobody@127.0.0.1:9/nothing")
    purse = Purse(nowhere, now=lambda: (day or [5.0])[0])
    tried = replace(decision(target("a", FakeProvider()), target("b", FakeProvider())), extra_nanousd=40)
    return purse, tried, Record(id="req", at=5.0, route="chat")


@pytest.mark.parametrize(
    ("attempts", "spent"),
    [
        ([], 0),
        ([{"endpoint": "a", "outcome": "ok"}], 40),
        ([{"endpoint": "a", "outcome": "cancelled", "may_cost": True}], 40),
        ([{"endpoint": "a", "outcome": "budget"}, {"endpoint": "b", "outcome": "ok"}], 0),
        ([{"endpoint": "a", "outcome": "upstream_limited"}, {"endpoint": "b", "outcome": "ok"}], 0),
    ],
    ids=["nobody asked", "answered", "given up", "not covered", "turned away"],
)
def test_a_try_that_cost_nothing_is_given_back(attempts: list[dict[str, Any]], spent: int) -> None:
    purse, tried, record = _tries()

    with purse.trying(tried, record):
        assert purse.left("p") == -40
        record.attempts.extend(attempts)

    assert purse.left("p") == -spent


def test_a_try_is_given_back_after_a_failure_but_not_to_another_day() -> None:
    now = [5.0]
    purse, tried, record = _tries(now)

    with pytest.raises(ValueError, match="no budget"), purse.trying(tried, record):
        raise ValueError("no budget")
    assert purse.left("p") == 0
    with purse.trying(tried, record):
        now[0] += DAY_S

    assert purse.left("p") == 0
