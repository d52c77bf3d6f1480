"""Budgets of organisations, teams, keys, models and tags, and where each stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from fastapi import APIRouter, Request

from gateway.admission.gauges import Gauges, GaugesUnavailable, Level
from gateway.admission.rule_checks import check_budget, check_subject, to_nanousd, window_of
from gateway.admission.rules import Budget, Scope
from gateway.api.admin.access import Admin, PathId, QueryId, TheGateway, TheGauges, TheStores, known_of
from gateway.api.admin.bodies import Body, described_body, given_fields, read_json, refusals
from gateway.api.admin.shown import shown_budget, shown_level
from gateway.errors import NotFound, Overloaded
from gateway.state import Gateway

router = APIRouter(prefix="/admin/budgets")
ScopeName = Literal["organisation", "team", "key", "model", "tag"]


class BudgetBody(Body):
    """What may be changed later. Hard budgets refuse, soft ones warn: in a header, a metric, and by the webhook."""

    limit_usd: Decimal = Decimal(0)
    hard: bool = True
    webhook_url: str | None = None


class NewBudget(BudgetBody):
    """`scope_id` is an id of organisation, team or key, a model's id, or a tag.

    `window` is total, calendar (with `period`), or rolling (with `window_s`).
    """

    limit_usd: Decimal
    scope: ScopeName
    scope_id: str
    window: Literal["total", "calendar", "rolling"] = "total"
    period: Literal["hour", "day", "week", "month"] | None = None
    window_s: int | None = None


@router.post("", status_code=201, openapi_extra=described_body(NewBudget))
async def create(request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Set a budget; a subject may have several."""
    return shown_budget(await set_budget(await read_json(request, gateway, NewBudget), gateway, caller.key_id))


async def set_budget(new: NewBudget, gateway: Gateway, actor: str) -> Budget:
    """The new budget."""
    with refusals():
        window = window_of(new.window, new.period, new.window_s)
        budget = Budget(
            "", Scope(new.scope), new.scope_id, to_nanousd(new.limit_usd), window, new.hard, new.webhook_url
        )
        check_budget(budget)
        check_subject(budget.scope, budget.scope_id, known_of(gateway))
        stored = await gateway.stores.rules.create(budget, actor=actor)
    await gateway.changes.poll()
    return stored


@router.get("")
async def list_budgets(
    _: Admin, stores: TheStores, scope: ScopeName | None = None, scope_id: QueryId | None = None
) -> dict[str, Any]:
    """All budgets, those of a scope, or those of one subject."""
    rows = await stores.rules.list(Budget, Scope(scope) if scope else None, scope_id)
    return {"data": [shown_budget(row) for row in rows]}


@router.get("/{budget_id}")
async def show(budget_id: PathId, _: Admin, stores: TheStores) -> dict[str, Any]:
    """One budget."""
    return shown_budget(_found(await stores.rules.get(Budget, budget_id), budget_id))


@router.get("/{budget_id}/level")
async def level(budget_id: PathId, _: Admin, stores: TheStores, gauges: TheGauges) -> dict[str, Any]:
    """What is spent and reserved in the present window."""
    budget = _found(await stores.rules.get(Budget, budget_id), budget_id)
    (found,) = await levels_of([budget], gauges)
    return shown_level(found)


async def levels_of(budgets: Sequence[Budget], gauges: Gauges) -> Sequence[Level]:
    """Where each stands, in their order; 503 where the store of budgets is away."""
    try:
        return await gauges.levels(budgets)
    except GaugesUnavailable as error:
        raise Overloaded("The store of budgets does not answer just now; try again shortly.") from error


@router.patch("/{budget_id}", openapi_extra=described_body(BudgetBody))
async def change(budget_id: PathId, request: Request, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Change what is given; what is spent stays spent. Another window, or another subject, is another budget."""
    body = await read_json(request, gateway, BudgetBody)
    return shown_budget(await change_budget(budget_id, body, gateway, caller.key_id))


async def change_budget(budget_id: str, body: BudgetBody, gateway: Gateway, actor: str) -> Budget:
    """The budget as it is now; 404 where there is none."""
    given = dict(given_fields(body))

    def edit(old: Budget) -> Budget:
        if "limit_usd" in given:
            given["limit_nanousd"] = to_nanousd(given.pop("limit_usd"))
        new = replace(old, **given)
        check_budget(new)
        return new

    with refusals():
        stored = await gateway.stores.rules.update(Budget, budget_id, edit, actor=actor)
    await gateway.changes.poll()
    return _found(stored, budget_id)


@router.delete("/{budget_id}")
async def remove(budget_id: PathId, caller: Admin, gateway: TheGateway) -> dict[str, Any]:
    """Remove a budget."""
    await remove_budget(budget_id, gateway, caller.key_id)
    return {"id": budget_id, "deleted": True}


async def remove_budget(budget_id: str, gateway: Gateway, actor: str) -> None:
    """404 where there is none."""
    if not await gateway.stores.rules.delete(Budget, budget_id, actor=actor):
        raise NotFound(f"There is no budget '{budget_id[:80]}'.")
    await gateway.changes.poll()


def _found(budget: Budget | None, budget_id: str) -> Budget:
    if budget is None:
        raise NotFound(f"There is no budget '{budget_id[:80]}'.")
    return budget
