"""What the ledger knows of a trial: units once and in their order, feedback in time, what is usual, shadows."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from gateway.errors import InvalidRequest
from gateway.ledger.feedback import Feedback, FeedbackStore
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record, ShadowDecision
from gateway.ledger.rows import from_line, to_line, to_rows
from gateway.lifecycle.trials.assignment import Arm
from gateway.lifecycle.trials.reading import BATCH_UNITS
from gateway.lifecycle.trials.terms import Limits, Metric, Mode, State
from tests.integration.database.ledgers import a_record
from tests.integration.database.trial_scene import (
    WISH,
    Clock,
    Worker,
    begun,
    clock,
    served,
    stored,
    workers,
)

__all__ = ["clock", "workers"]


async def test_units_count_once_in_their_order_with_what_they_asked_in_their_window(
    workers: list[Worker], clock: Clock
) -> None:
    one = workers[0]
    trial, start = await begun(one, clock), clock.now
    rows = [
        served(trial, 1, start + 1.0, id="a", trial_arm=Arm.CANARY),
        served(trial, 1, start + 1.9, id="b", status=502, trial_arm=Arm.CANARY, trial_unit=f"{1:016x}"),
        served(trial, 1, start + 2.1, id="late", trial_arm=Arm.CANARY),
        served(trial, 1, start + 1.5, id="moved", trial_arm=Arm.CONTROL),
        served(trial, 2, start + 0.5, id="c", trial_arm=Arm.CONTROL, cache_status="hit-exact"),
        served(trial, 3, start - 0.5, id="before", trial_arm=Arm.CONTROL),
        served(trial, 3, start + 0.5, id="again", trial_arm=Arm.CONTROL),
        served(trial, 4, start + 0.7, id="shadow", trial_arm=Arm.SHADOW),
        served(trial, 5, start + 9.0, id="unripe", trial_arm=Arm.CONTROL),
    ]
    await stored(one.gateway.engine, rows)

    page = await one.reader.units(trial.id, start, start + 5.0, 1.0)
    again = await one.reader.units(trial.id, start + 5.0, start + 8.0, 1.0)

    seen = [(unit.first_at - start, unit.canary, [row.id for row in unit.requests]) for unit in page.units]
    assert seen == [(0.5, False, ["c"]), (1.0, True, ["a", "b"])]
    assert page.units[0].requests[0].cached and not page.units[1].requests[0].cached
    assert (page.upto, page.more, again.units) == (start + 5.0, False, ())


async def test_many_units_come_in_pages_and_none_twice(workers: list[Worker], clock: Clock) -> None:
    one, start = workers[0], clock.now
    trial, count = await begun(one, clock), BATCH_UNITS + 100
    rows = [served(trial, number, start + 0.001 * (number // 3 + 1)) for number in range(count)]
    await stored(one.gateway.engine, rows)

    first = await one.reader.units(trial.id, start, start + 60.0, 1.0)
    second = await one.reader.units(trial.id, first.upto, start + 60.0, 1.0)

    names = [unit.unit for page in (first, second) for unit in page.units]
    assert (first.more, second.more) == (True, False)
    assert len(names) == len(set(names)) == count


async def test_feedback_counts_where_it_comes_in_time(workers: list[Worker], clock: Clock) -> None:
    one, start = workers[0], clock.now
    trial = await begun(one, clock)
    await stored(one.gateway.engine, [served(trial, number, start + number, id=f"r{number}") for number in (1, 2, 3)])
    for request, source, after, score in (("r1", "user", 5, 1.0), ("r1", "judge", 6, 0.5), ("r2", "user", 90, 0.0)):
        store = FeedbackStore(one.gateway.engine, now=lambda after=after: start + after)  # type: ignore[misc]
        await store.put(Feedback(request, source, score, "key"))

    page = await one.reader.units(trial.id, start, start + 10.0, 1.0)
    scores = await one.reader.scores(page.units, 60.0)

    assert scores == {f"{1:016x}": 0.75}


async def test_what_is_slow_and_dear_comes_from_the_ledger_and_what_is_unknown_is_left_out(
    workers: list[Worker], clock: Clock
) -> None:
    one = workers[0]
    wish = replace(WISH, tolerance=None, limits=Limits({}))
    with pytest.raises(InvalidRequest, match="latency"):
        await one.desk.start(replace(wish, tolerance={Metric.LATENCY: 0.1}), "ann")
    new = await one.desk.start(wish, "ann")
    await one.desk.end(new.id, State.STOPPED, "", actor="ann")
    await stored(one.gateway.engine, [usual(number) for number in range(100)])
    known = await one.desk.start(wish, "ann")

    assert set(new.limits.tolerance) == {Metric.ERRORS} and "slow_ms" in new.limits.left_out[Metric.LATENCY]
    assert set(known.limits.tolerance) == {Metric.ERRORS, Metric.COST, Metric.LATENCY}
    assert (known.limits.slow_ms, known.limits.cost_cap_nanousd) == (90.0, 4 * 99_000)
    assert Metric.FEEDBACK in known.limits.left_out


def usual(number: int) -> Record:
    return replace(
        a_record(number), at=time.time() - 60, policy="desk", total_ms=float(number), cost_nanousd=1000 * number
    )


async def test_shadow_decisions_go_through_ledger_and_spool(workers: list[Worker], clock: Clock) -> None:
    one = workers[0]
    trial = await one.desk.start(replace(WISH, mode=Mode.SHADOW, share=1.0), "ann")
    base = ShadowDecision("r0", trial.id, clock.now, "cheap", 1.0, 0.5, 100, False, None, "dear", 0.7, 200)
    rows = [
        base,
        replace(base, request_id="r1", model="dear", agrees=True, cost_nanousd=200, quality=0.7),
        replace(base, request_id="r2", model=None, propensity=None, quality=None, cost_nanousd=None, fault="nobody"),
    ]
    lines = [to_line(row) for one_row in rows for row in to_rows(one_row)]

    await stored(one.gateway.engine, rows)
    again = await Inserter(one.gateway.engine, 10.0).insert([from_line(line) for line in lines])

    assert again.refused == []
    report = await one.gateway.trials.reports.one(trial)
    assert {name: report["shadow"][name] for name in ("requests", "agrees", "faults")} == {
        "requests": 3,
        "agrees": 1,
        "faults": 1,
    }
    assert (report["shadow"]["cost_nanousd"], report["shadow"]["control_cost_nanousd"]) == (150.0, 200.0)
    assert report["shadow"]["quality"] == pytest.approx(0.6)
    assert "33.3% of 3 requests" in report["verdict"] and "-25.0%" in report["verdict"]
