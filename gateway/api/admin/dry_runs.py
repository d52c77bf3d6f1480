"""Dry runs of policies: start one in the background, see how far it is, read what it found, cancel it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field

from gateway.api.admin.access import Admin, PathId, TheGateway
from gateway.api.admin.bodies import Body, described_body, read_json
from gateway.errors import InvalidRequest, NotFound
from gateway.lifecycle.dry_run.rows import MOST_ROWS
from gateway.lifecycle.dry_run.store import Asked, Report

router = APIRouter(prefix="/admin/dry-runs")
MOST_TOML: Final = 60_000


class DryRunBody(Body):
    """`policy` with a `version` or with `toml`, a text that need not be saved; neither: what is in force.

    Its last `last` requests are decided anew, of the last `days` where given; intervals hold with 1 - `delta`, and a
    number needs `effective_rows` decisions\' worth of evidence.
    """

    policy: str = Field(min_length=1, max_length=100)
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    toml: str | None = Field(default=None, max_length=MOST_TOML)
    last: int = Field(default=50_000, ge=1, le=MOST_ROWS)
    days: float | None = Field(default=None, gt=0, le=36_500, allow_inf_nan=False)
    delta: float = Field(default=0.05, ge=1e-6, le=0.5)
    effective_rows: float = Field(default=50.0, ge=2, le=1e9)


@router.post("", status_code=202, openapi_extra=described_body(DryRunBody))
async def start(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Decide the policy\'s last requests anew; one dry run at a time, 409 while another is running."""
    asked = await read_json(request, gateway, DryRunBody)
    if asked.version is not None and asked.toml is not None:
        raise InvalidRequest("Give 'version' or 'toml', not both.", param="toml")
    version, text = asked.version, asked.toml
    if text is None:
        found = await gateway.policy_desk.text(asked.policy, "active" if version is None else str(version))
        text, version = found.body, None if found.version is None else found.version.id
    checked = await gateway.policy_desk.check(text, asked.policy)
    if not checked.ready:
        raise InvalidRequest(
            "\n".join(map(str, checked.problems)), param="toml" if asked.toml is not None else "version"
        )
    wanted = Asked(asked.last, asked.days, asked.delta, asked.effective_rows)
    report_id = await gateway.dry_runs.start(asked.policy, text, version, wanted, actor=caller.key_id)
    return await one(report_id, caller, gateway)


@router.get("")
async def recent(
    _: Admin,
    gateway: TheGateway,
    policy: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """The newest first, without what they found."""
    rows = await gateway.dry_runs.store.list(policy, limit)
    return {"data": [_light(row) for row in rows]}


@router.get("/{report_id}")
async def one(report_id: PathId, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """How far it is, and what it found."""
    report = await gateway.dry_runs.store.get(report_id)
    if report is None:
        raise NotFound(f"There is no dry run '{report_id[:80]}'.")
    return asdict(report)


@router.delete("/{report_id}")
async def cancel(report_id: PathId, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """End it; what is done already stays."""
    cancelled = await gateway.dry_runs.store.cancel(report_id, actor=caller.key_id)
    if not cancelled and await gateway.dry_runs.store.get(report_id) is None:
        raise NotFound(f"There is no dry run '{report_id[:80]}'.")
    return {"id": report_id, "cancelled": cancelled}


def _light(report: Report) -> dict[str, Any]:
    return {name: value for name, value in asdict(report).items() if name not in ("body", "result")}
