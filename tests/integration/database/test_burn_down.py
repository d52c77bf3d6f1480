"""How a budget's money went, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.burn_down import TOTAL_DAYS, burn_down
from gateway.admission.key_store import KeyStore
from gateway.admission.rules import Budget, Period, Scope, Window, WindowKind
from gateway.ledger.engine import writing
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record
from gateway.ledger.rows import to_row
from gateway.ledger.tables import budget_spend
from gateway.ledger.usage_tables import DAY_S, FINE_S, HOUR_S
from tests.integration.database.ledgers import a_record

MIDNIGHT = 1_700_006_400  # Wednesday
DAY = Window(WindowKind.CALENDAR, Period.DAY)


async def _insert(engine: AsyncEngine, *records: Record) -> None:
    await Inserter(engine, 10.0).insert([to_row(record) for record in records])


async def _book(engine: AsyncEngine, bucket: int, nanousd: int) -> None:
    row = {"budget_id": "b", "bucket_start": bucket, "spent_nanousd": nanousd}
    async with writing(engine).begin() as connection:
        await connection.execute(insert(budget_spend), [row])


async def test_the_money_of_a_day_goes_step_by_step_and_runs_out_as_it_went_so_far(engine: AsyncEngine) -> None:
    now = MIDNIGHT + 6 * HOUR_S
    spent = [a_record(n, at=MIDNIGHT + n * HOUR_S, team_id="t", cost_nanousd=100) for n in range(-3, 6)]
    await _insert(engine, *spent, a_record(90, at=now - 1, team_id="other", cost_nanousd=10**6))
    await _book(engine, MIDNIGHT, 600)
    await _book(engine, MIDNIGHT - DAY_S, 10**6)

    found = await burn_down(engine, Budget("b", Scope.TEAM, "t", 1_000, DAY), lambda: now)

    assert (found.start, found.step_s, found.resets_at) == (MIDNIGHT, FINE_S, MIDNIGHT + DAY_S)
    assert found.points is not None and len(found.points) == 6 * 12 + 1
    assert found.points[::12] == (100, 200, 300, 400, 500, 600, 600)
    assert found.spent_nanousd == 600 and found.exhausted_at == now + 4 * HOUR_S


async def test_money_that_lasts_until_the_window_ends_has_no_end(engine: AsyncEngine) -> None:
    now = MIDNIGHT + 12 * HOUR_S
    await _book(engine, MIDNIGHT, 100)

    found = await burn_down(engine, Budget("b", Scope.TEAM, "t", 1_000, DAY), lambda: now)
    untouched = await burn_down(engine, Budget("other", Scope.TEAM, "t", 1_000, DAY), lambda: now)

    assert found.exhausted_at is None and untouched.exhausted_at is None
    assert untouched.points is not None and set(untouched.points) == {0}


async def test_a_total_shows_its_last_days_above_what_was_spent_before(engine: AsyncEngine) -> None:
    now = MIDNIGHT + 5
    await _insert(engine, a_record(1, at=MIDNIGHT - 2 * DAY_S, model="m", cost_nanousd=30), a_record(2, at=now))
    await _book(engine, 0, 100)

    found = await burn_down(engine, Budget("b", Scope.MODEL, "m", 10_000), lambda: now)

    assert found.points is not None and len(found.points) == TOTAL_DAYS + 1
    assert (found.points[0], found.points[-1], found.resets_at) == (70, 100, None)
    assert found.exhausted_at == pytest.approx(now + 9_900 / 30 * (TOTAL_DAYS * DAY_S + 5), rel=1e-6)


async def test_a_rotated_keys_budget_counts_its_whole_line(engine: AsyncEngine) -> None:
    store = KeyStore(engine)
    first, _ = await store.issue("app")
    rotated = await store.rotate(first.id, 60.0)
    assert rotated is not None
    await _insert(
        engine,
        a_record(1, at=MIDNIGHT, key_id=first.id, cost_nanousd=1),
        a_record(2, at=MIDNIGHT, key_id=rotated[0].id, cost_nanousd=2),
        a_record(3, at=MIDNIGHT, key_id="stranger", cost_nanousd=4),
    )

    found = await burn_down(engine, Budget("b", Scope.KEY, first.id, 10, DAY), lambda: MIDNIGHT + 1.0)

    assert found.points == (3,)


async def test_of_a_tag_only_what_is_booked_is_known(engine: AsyncEngine) -> None:
    await _book(engine, MIDNIGHT, 7)

    found = await burn_down(engine, Budget("b", Scope.TAG, "red", 10, DAY), lambda: MIDNIGHT + 1.0)

    assert (found.points, found.spent_nanousd) == (None, 7)
