"""What the ledger remembers of a model's last calls, as far as estimates learn from it. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.faults import asking
from gateway.ledger.tables import request_log


@dataclass(frozen=True, slots=True)
class Seed:
    """One answered call; `forecast` is the 90th percentile of its output's tokens as it was foreseen, 0 if unknown."""

    category: str
    prompt_estimate: int
    text_only: bool
    max_output_tokens: int | None
    forecast: int
    input_tokens: int
    output_tokens: int
    estimated: bool
    finish_reason: str | None


async def seeds_of(engine: AsyncEngine, model_id: str, most: int) -> list[Seed]:
    """The last `most` answered calls of a model, oldest first. Raises `DatabaseUnavailable`."""
    log = request_log.c
    statement = (
        select(
            log.endpoint,
            log.category,
            log.features,
            log.decision,
            log.input_tokens,
            log.output_tokens,
            log.usage_estimated,
            log.finish_reason,
        )
        .where(log.model == model_id, log.status == 200, log.cache_status != "hit")
        .where(log.strategy.is_(None))  # those are sums over several calls
        .order_by(log.at.desc())
        .limit(most)
    )
    with asking():
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).mappings().all()
    return [_seed(row) for row in reversed(rows)]


def _seed(row: RowMapping) -> Seed:
    features: Mapping[str, Any] = row["features"] or {}
    return Seed(
        category=row["category"] or "general",
        prompt_estimate=int(features.get("tokens") or 0),
        text_only=len(features.get("modalities") or ()) <= 1,
        max_output_tokens=features.get("max_output_tokens"),
        forecast=_forecast(row["decision"] or (), row["endpoint"]) if "max_output_tokens" in features else 0,
        input_tokens=int(row["input_tokens"] or 0),
        output_tokens=int(row["output_tokens"] or 0),
        estimated=bool(row["usage_estimated"]),
        finish_reason=row["finish_reason"],
    )


def _forecast(decision: Sequence[Mapping[str, Any]], endpoint: str | None) -> int:
    """What was foreseen for the endpoint that answered."""
    found = (one.get("output_tokens_high") for one in decision if one.get("endpoint") == endpoint)
    return int(next(found, None) or 0)
