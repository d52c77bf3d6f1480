"""Drafts on trial: start, watch, give more or less traffic, end, put in force."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from gateway.api.admin.access import Admin, PathId, QueryId, TheFeed, TheGateway
from gateway.api.admin.bodies import Body, described_body, read_json
from gateway.api.admin.policy import IfMatch, revision_of
from gateway.lifecycle.trials.assignment import UnitKind
from gateway.lifecycle.trials.desk import Wish
from gateway.lifecycle.trials.reports import shown
from gateway.lifecycle.trials.terms import Limits, Metric, Mode, State, Trial

router = APIRouter(prefix="/admin/trials")
_NO_NUL = r"^[^\x00]*$"
Note = Annotated[str, Field(max_length=1000, pattern=_NO_NUL)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class NewTrial(Body):
    """`share`: of units in a canary, of requests in a shadow. `tolerance`: how much worse the draft may be, `cost` as a
    share of the control's, the others as differences; metrics that it does not name are not judged. Without it all are
    judged for which the ledger says what is usual. `slow_ms` and `cost_cap_nanousd` are else taken from the ledger."""

    policy: str = Field(max_length=100, pattern=_NO_NUL)
    version: int = Field(ge=1, le=2**31 - 1)
    mode: Literal["shadow", "canary"]
    share: Number = 0.05
    scope: str = Field(default="", max_length=300, pattern=_NO_NUL)
    note: Note = ""
    tolerance: dict[Metric, Number] | None = None
    alpha: Number = 0.05
    unit: UnitKind = UnitKind.CALLER
    slow_ms: Number | None = None
    cost_cap_nanousd: int | None = Field(default=None, ge=1, le=10**15)
    window_s: Number = 60.0
    settle_s: Number = 60.0
    feedback_wait_s: Number = 600.0
    warm_up_s: Number = 0.0
    min_units: int = Field(default=500, ge=1, le=10**9)
    longest_s: Number = 7 * 86_400.0
    auto_promote: bool = False


class ShareBody(Body):
    """Of all units; who was in the canary arm of a smaller share stays in it."""

    share: Number


class EndBody(Body):
    """Why, for those who look later."""

    note: Note = ""


@router.post("", status_code=201, openapi_extra=described_body(NewTrial))
async def start(
    request: Request, response: Response, caller: Admin, gateway: TheGateway, feed: TheFeed
) -> dict[str, Any]:
    """Let a draft decide beside what is in force (shadow), or serve a share of the traffic (canary)."""
    wish = wish_of(await read_json(request, gateway, NewTrial))
    trial = await gateway.trials.desk.start(wish, caller.key_id)
    await gateway.trials.book.refresh()
    await feed.poll()
    return _told(trial, response)


@router.get("")
async def list_trials(
    _: Admin,
    gateway: TheGateway,
    policy: QueryId | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The newest first; `refused` says which drafts this process can't use, and why."""
    rows = await gateway.trials.reports.newest(policy, limit)
    return {"data": rows, "refused": gateway.trials.book.refused}


@router.get("/{trial_id}")
async def show(trial_id: PathId, response: Response, _: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Both arms, each metric with an interval that holds at all times, how they came to that (`looks`), and in words
    what follows. Its ETag is for If-Match."""
    trial = await gateway.trials.desk.get(trial_id)
    _told(trial, response)
    refused = gateway.trials.book.refused.get(trial.id)
    return {**await gateway.trials.reports.one(trial), "refused": refused}


@router.patch("/{trial_id}", openapi_extra=described_body(ShareBody))
async def share(
    trial_id: PathId,
    request: Request,
    response: Response,
    caller: Admin,
    gateway: TheGateway,
    if_match: IfMatch = None,
) -> dict[str, Any]:
    """Give the draft more or less."""
    revision = revision_of(if_match)
    asked = await read_json(request, gateway, ShareBody)
    desk = gateway.trials.desk
    trial = await desk.share(trial_id, asked.share, actor=caller.key_id, if_revision=revision)
    await gateway.trials.book.refresh()
    return _told(trial, response)


@router.post("/{trial_id}/stop", openapi_extra=described_body(EndBody))
async def stop(
    trial_id: PathId,
    request: Request,
    response: Response,
    caller: Admin,
    gateway: TheGateway,
    if_match: IfMatch = None,
) -> dict[str, Any]:
    """End it; what is in force serves everybody."""
    return await _end(State.STOPPED, trial_id, request, response, caller.key_id, gateway, if_match)


@router.post("/{trial_id}/rollback", openapi_extra=described_body(EndBody))
async def rollback(
    trial_id: PathId,
    request: Request,
    response: Response,
    caller: Admin,
    gateway: TheGateway,
    if_match: IfMatch = None,
) -> dict[str, Any]:
    """End it because the draft is bad."""
    return await _end(State.ROLLED_BACK, trial_id, request, response, caller.key_id, gateway, if_match)


@router.post("/{trial_id}/promote", openapi_extra=described_body(EndBody))
async def promote(
    trial_id: PathId,
    request: Request,
    response: Response,
    caller: Admin,
    gateway: TheGateway,
    if_match: IfMatch = None,
) -> dict[str, Any]:
    """Put the draft in force for the trial's scope, whether anything is proved or not, and end the trial."""
    revision = revision_of(if_match)
    note = (await read_json(request, gateway, EndBody)).note
    trial = await gateway.trials.desk.promote(
        trial_id, note or "promoted by hand", actor=caller.key_id, if_revision=revision
    )
    await gateway.trials.book.refresh()
    return _told(trial, response)


async def _end(
    state: State,
    trial_id: str,
    request: Request,
    response: Response,
    actor: str,
    gateway: TheGateway,
    if_match: str | None,
) -> dict[str, Any]:
    revision = revision_of(if_match)
    note = (await read_json(request, gateway, EndBody)).note
    trial = await gateway.trials.desk.end(
        trial_id, state, note or f"{state} by hand", actor=actor, if_revision=revision
    )
    await gateway.trials.book.refresh()
    return _told(trial, response)


def wish_of(asked: NewTrial) -> Wish:
    """What the desk understands."""
    limits = Limits(
        {},
        alpha=asked.alpha,
        unit=asked.unit,
        slow_ms=asked.slow_ms,
        cost_cap_nanousd=asked.cost_cap_nanousd,
        window_s=asked.window_s,
        settle_s=asked.settle_s,
        feedback_wait_s=asked.feedback_wait_s,
        warm_up_s=asked.warm_up_s,
        min_units=asked.min_units,
        longest_s=asked.longest_s,
        auto_promote=asked.auto_promote,
    )
    named = (asked.policy, asked.version, Mode(asked.mode), asked.share, asked.scope, asked.note)
    return Wish(*named, tolerance=asked.tolerance, limits=limits)


def _told(trial: Trial, response: Response) -> dict[str, Any]:
    response.headers["etag"] = f'"{trial.revision}"'
    return shown(trial)
