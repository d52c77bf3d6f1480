"""Forecasts beside what came, on both databases."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.forecasts import Costs, calibration
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record
from gateway.ledger.rows import to_row
from gateway.ledger.tables import feedback
from tests.integration.database.ledgers import a_record

AT = a_record(0).at


def _decided(number: int, quality: float, **changes: Any) -> Record:
    ranking = [
        {"endpoint": "e1", "model": "first", "quality": 0.99, "cost_nanousd": 1},
        {"endpoint": "e2", "model": "m", "quality": quality, "cost_nanousd": 50},
        {"endpoint": "e3", "model": "m", "quality": quality, "cost_nanousd": 100},
    ]
    return a_record(number, **{"model": "m", "endpoint": "e3", "decision": ranking, "cost_nanousd": 200, **changes})


async def _store(engine: AsyncEngine, records: list[Record], scores: list[tuple[Record, str, float]]) -> None:
    await Inserter(engine, 10.0).insert([to_row(record) for record in records])
    said = [
        {"request_id": one.id, "source": source, "score": score, "at": one.at + 5, "key_id": "k"}
        for one, source, score in scores
    ]
    async with writing(engine).begin() as connection:
        await connection.execute(insert(feedback), said)


async def test_quality_is_told_by_bins_of_what_was_forecast(engine: AsyncEngine) -> None:
    low = [_decided(number, 0.3) for number in range(10)]
    high = [_decided(100 + number, 1.0) for number in range(40)]
    scores = [(one, "user", 1.0 if place < 2 else 0.0) for place, one in enumerate(low)]
    scores += [(one, "user", 0.5) for one in high] + [(one, "tests", 1.0) for one in high]
    await _store(engine, [*low, *high, _decided(500, 0.3)], scores)

    (found,) = await calibration(engine, AT)

    reach = math.sqrt(math.log(40) / 20)
    first, last = found.bins
    assert (found.model, found.rated, first.requests, last.requests) == ("m", 50, 10, 40)
    assert (first.low, first.high, first.forecast, first.score) == pytest.approx((0.2, 0.4, 0.3, 0.2))
    assert (first.score_low, first.score_high) == pytest.approx((0.0, 0.2 + reach))
    assert (last.low, last.high, last.score) == pytest.approx((0.8, 1.0, 0.75))


async def test_cost_is_told_beside_the_forecast_of_the_endpoint_that_answered(engine: AsyncEngine) -> None:
    others = [
        _decided(50, 0.5, status=500),
        _decided(51, 0.5, cost_nanousd=0),
        _decided(52, 0.5, decision=None),
        _decided(53, 0.5, model="gone"),
    ]
    records = [_decided(number, 0.5, cost_nanousd=100 * (number + 1)) for number in range(11)]
    await _store(engine, [*records, *others], [(records[0], "user", 1.0)])

    (found,) = await calibration(engine, AT)

    assert found.costs == Costs(11, 1_100, 6_600, 2.0, 6.0, 10.0)


async def test_only_the_newest_are_looked_at(engine: AsyncEngine) -> None:
    records = [_decided(number, 0.5, cost_nanousd=number) for number in range(1, 30)]
    await _store(engine, records, [(one, "user", one.at - AT) for one in records])

    (found,) = await calibration(engine, AT, newest=2)
    recent = await calibration(engine, AT + 1_000)

    assert (found.rated, found.bins[0].score) == pytest.approx((2, 28.5))
    assert found.costs is not None and found.costs.real_nanousd == 28 + 29
    assert recent == []
