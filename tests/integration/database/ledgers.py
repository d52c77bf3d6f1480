"""Records to store, and looks at what was stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.record import Record
from gateway.ledger.tables import request_log
from gateway.ledger.writer import Pace

HASTY = Pace(flush_s=0.01, first_retry_s=0.05, last_retry_s=0.1)

_RECORD = Record(
    id="",
    at=1_700_000_000.0,
    route="chat",
    key_id="abcdefghijkl",
    policy="default",
    model="smollm2-135m",
    endpoint="local-smollm2",
    propensity=0.5,
    decision=[{"endpoint": "local-smollm2", "quality": 0.61, "cost_nanousd": 0}],
    attempts=[{"endpoint": "local-smollm2", "status": 200}],
    features={"tokens": 12},
    embedding=b"\x00\x3c\xff",
    status=200,
    input_tokens=12,
    output_tokens=34,
    cost_nanousd=5_600,
    total_ms=78.9,
)


def a_record(number: int, **changes: Any) -> Record:
    """A settled request; a higher number came later."""
    return replace(_RECORD, **{"id": f"req_{number:06d}", "at": _RECORD.at + number, **changes})


async def stored_ids(engine: AsyncEngine) -> list[str]:
    """Ids in the request log, in the order of time."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(request_log.c.id).order_by(request_log.c.at))).scalars())


async def stored(engine: AsyncEngine, request_id: str) -> dict[str, Any]:
    """One row."""
    async with engine.connect() as connection:
        statement = select(request_log).where(request_log.c.id == request_id)
        return dict((await connection.execute(statement)).mappings().one())


async def forbid_model(engine: AsyncEngine, model: str) -> None:
    """Make the database refuse rows of one model, as an operator's own constraint might."""
    if engine.dialect.name == "sqlite":
        body = f"BEFORE INSERT ON request_log WHEN NEW.model = '{model}' BEGIN SELECT RAISE(ABORT, 'no'); END"
        statement = f"CREATE TRIGGER forbidden {body}"
    else:
        statement = f"ALTER TABLE request_log ADD CONSTRAINT forbidden CHECK (model <> '{model}')"
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def hide_log(engine: AsyncEngine, hidden: bool = True) -> None:
    """Take the request log away, as an unfinished migration would, or bring it back."""
    old, new = ("request_log", "elsewhere") if hidden else ("elsewhere", "request_log")
    async with engine.begin() as connection:
        await connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
