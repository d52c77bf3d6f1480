"""What was asked and spent, for charts: sums over time and by lines, budgets' course, forecasts beside what came."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.admission.burn_down import burn_down
from gateway.admission.rules import Budget
from gateway.api.admin.access import Admin, PathId, TheGateway, TheStores
from gateway.api.admin.bodies import Body
from gateway.cache.trust import bounds_of
from gateway.errors import InvalidRequest, NotFound
from gateway.ledger.cache_evidence import Sums as Evidence
from gateway.ledger.forecasts import calibration
from gateway.ledger.usage import Group, Line, Order, Period, Sums, UsageError, Where, groups, overview, stretch_of
from gateway.state import Gateway

router = APIRouter(prefix="/admin/usage")
Name = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]


class Asked(Body):
    """Which sums. Filters must hold together; an empty one means requests that have none."""

    period: Period = "24h"
    by: Line | None = None
    order: Order = "cost_nanousd"
    limit: int = Field(default=20, ge=1, le=1000)
    model: Name | None = None
    endpoint: Name | None = None
    policy: Name | None = None
    category: Name | None = None
    key_id: Name | None = None
    team_id: Name | None = None
    organisation_id: Name | None = None

    def where(self) -> Where:
        """As the ledger knows it."""
        return Where(**self.model_dump(exclude={"period", "by", "order", "limit"}))


@router.get("")
async def usage(_: Admin, gateway: TheGateway, asked: Annotated[Asked, Query()]) -> dict[str, Any]:
    """Sums over the period, for each of its steps and in all; with `by` also for each model, key and so on. Money is in
    nano-dollars; quantiles of times are less than 25 % off, and known by model and endpoint only."""
    stretch, where = stretch_of(asked.period), asked.where()
    try:
        found = await overview(gateway.engine, stretch, where)
        told: dict[str, Any] = {
            **asdict(stretch),
            "total": _shown(found.total),
            "points": [{"at": at, **_shown(one)} for at, one in zip(stretch.starts, found.points, strict=True)],
        }
        if asked.by is not None:
            rows = await groups(gateway.engine, stretch, asked.by, where, order=asked.order, limit=asked.limit)
            told["groups"] = [_shown_group(row) for row in rows]
    except UsageError as error:
        raise InvalidRequest(str(error), param="by") from error
    return told


@router.get("/cache")
async def cache(_: Admin, gateway: TheGateway) -> dict[str, Any]:
    """How many answers given by likeness were checked or reported, ever, and the shares of wrong ones that this leaves
    possible, at least and at most."""
    return await false_hits(gateway)


@router.get("/forecasts")
async def forecasts(_: Admin, gateway: TheGateway, period: Period = "30d") -> dict[str, Any]:
    """By model, what was forecast beside what came: quality beside feedback, cost beside cost."""
    return {"data": [asdict(one) for one in await calibration(gateway.engine, stretch_of(period).start)]}


@router.get("/budgets/{budget_id}")
async def burn(budget_id: PathId, _: Admin, gateway: TheGateway, stores: TheStores) -> dict[str, Any]:
    """What the budget's subject has spent in the present window, step by step, as the log sums it up."""
    budget = await stores.rules.get(Budget, budget_id)
    if budget is None:
        raise NotFound(f"There is no budget '{budget_id[:80]}'.")
    return asdict(await burn_down(gateway.engine, budget))


async def false_hits(gateway: Gateway) -> dict[str, Any]:
    """Of answers given by likeness, by the configuration in use."""
    book = gateway.cache.trust
    rows = await book.evidence.read(book.calibration, None)
    counts = {
        name: sum(getattr(sums, name) for _, _, sums in rows)
        for name in ("hits", "reported", "same", "different", "undecided")
    }
    closed = sum(sums.closed_at is not None for _, _, sums in rows)
    return {"calibration": book.calibration, **counts, **bounds_of(Evidence(**counts)), "closed_settings": closed}


def _shown(sums: Sums) -> dict[str, Any]:
    return {**asdict(sums), "error_share": sums.error_share, "hit_share": sums.hit_share}


def _shown_group(group: Group) -> dict[str, Any]:
    return {"name": group.name, **_shown(group.sums)}
