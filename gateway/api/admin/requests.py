"""The ledger, read: a search of the log, one request, and totals."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.api.admin.access import Admin, PathId, TheGateway
from gateway.api.admin.bodies import Body
from gateway.errors import InvalidRequest, NotFound
from gateway.ledger import reports
from gateway.ledger.search import WHOLE, Cursor, CursorError, count, search
from gateway.ledger.search_filters import Filters, StatusClass

router = APIRouter(prefix="/admin/requests")
Name = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]
Moment = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]


class Asked(Body):
    """Which requests; every filter that is given must hold. `since` and `until` (not within) are Unix seconds, `status`
    a number, a class such as 4xx, ok or error, `cache_status` as logged, or hit for every kind of hit. `after` is the
    `next` of the page before; `count` also counts, up to a bound."""

    since: Moment | None = None
    until: Moment | None = None
    key_id: Name | None = None
    team_id: Name | None = None
    model: Name | None = None
    endpoint: Name | None = None
    policy: Name | None = None
    category: Name | None = None
    status: str | None = Field(default=None, pattern="^(ok|error|[245]xx|[1-9][0-9]{2})$")
    error_code: Name | None = None
    cache_status: Name | None = None
    min_cost_usd: float | None = Field(default=None, ge=0, le=10**6, allow_inf_nan=False)
    min_total_ms: float | None = Field(default=None, ge=0, le=10**9, allow_inf_nan=False)
    id_prefix: str | None = Field(default=None, min_length=1, max_length=200, pattern="^[a-z0-9_.]+$")
    end_user: Name | None = None
    tag: Name | None = None
    limit: int = Field(default=50, ge=1, le=1000)
    after: Name | None = None
    count: bool = False

    def filters(self) -> Filters:
        """As the ledger knows them."""
        given = self.model_dump(exclude={"limit", "after", "count", "min_cost_usd", "status"})
        least = None if self.min_cost_usd is None else round(self.min_cost_usd * 1e9)
        return Filters(**given, status=_status(self.status), min_cost_nanousd=least)


def _status(text: str | None) -> StatusClass | int | None:
    return int(text) if text and text.isdigit() else cast(StatusClass | None, text)


@router.get("")
async def find(_: Admin, gateway: TheGateway, asked: Annotated[Asked, Query()]) -> dict[str, Any]:
    """The newest requests that pass the filters first. `next` leads to more, null at the end; where `looked_back_to`
    is a moment, only requests since then were looked at so far, and `next` goes on from there."""
    try:
        after = Cursor.of(asked.after) if asked.after else None
    except CursorError as error:
        raise InvalidRequest(str(error), param="after") from error
    page = await search(gateway.engine, asked.filters(), limit=asked.limit, after=after, columns=WHOLE)
    told: dict[str, Any] = {
        "data": page.rows,
        "next": page.next.text() if page.next else None,
        "looked_back_to": page.looked_back_to,
    }
    if asked.count:
        told["count"] = asdict(await count(gateway.engine, asked.filters()))
    return told


@router.get("/totals")
async def totals(
    _: Admin,
    gateway: TheGateway,
    by: Literal["model", "day", "key"] = "model",
    days: Annotated[int, Query(ge=1, le=36500)] = 30,
) -> dict[str, Any]:
    """Requests, tokens and cost (nano-dollars) over the last days."""
    return {"data": await reports.totals(gateway.engine, by, days)}


@router.get("/{request_id}")
async def one(request_id: PathId, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """One request with its decision."""
    row = await reports.by_id(gateway.engine, request_id)
    if row is None:
        raise NotFound(f"There is no request '{request_id[:80]}' in the ledger (yet).")
    return row
