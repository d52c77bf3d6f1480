"""Budgets: what organisations, teams, keys, models and tags may spend, and where each stands."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway.admission.burn_down import BurnDown, burn_down
from gateway.admission.rules import Budget
from gateway.api.admin.access import PathId, gateway_of
from gateway.api.admin.budgets import BudgetBody, NewBudget, change_budget, levels_of, remove_budget, set_budget
from gateway.errors import InvalidRequest, NotFound
from gateway.ui.answers import page, to
from gateway.ui.charts import chart, series
from gateway.ui.doors import Editing, Form, Visitor
from gateway.ui.forms import body_of, faults_of
from gateway.ui.names import names_of
from gateway.ui.rendering import usd
from gateway.ui.sessions import Session
from gateway.ui.subjects import at_subject, subject_from, subjects_of

router = APIRouter(prefix="/budgets")
# What the form offers: kind of window, period, seconds.
WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "month": ("each calendar month", {"window": "calendar", "period": "month"}),
    "week": ("each week, from Monday", {"window": "calendar", "period": "week"}),
    "day": ("each day (UTC)", {"window": "calendar", "period": "day"}),
    "hour": ("each hour", {"window": "calendar", "period": "hour"}),
    "rolling-1": ("any 24 hours", {"window": "rolling", "window_s": 86_400}),
    "rolling-7": ("any 7 days", {"window": "rolling", "window_s": 7 * 86_400}),
    "rolling-30": ("any 30 days", {"window": "rolling", "window_s": 30 * 86_400}),
    "total": ("once and for all", {"window": "total"}),
}


@router.get("")
async def list_budgets(request: Request, session: Visitor) -> Response:
    """All budgets with their levels, those used up most first."""
    gateway = gateway_of(request)
    budgets = await gateway.stores.rules.list(Budget)
    levels = await levels_of(budgets, gateway.gauges) if budgets else []
    rows = sorted(
        ((level, used_share(level.spent_nanousd + level.reserved_nanousd, level.budget)) for level in levels),
        key=lambda row: row[1],
        reverse=True,
    )
    return page(request, "budgets.html", session, rows=rows, names=await names_of(gateway.stores))


@router.get("/new")
async def ask(request: Request, session: Visitor) -> Response:
    """The form of a new budget."""
    return await _form(request, session, Form({}))


@router.post("")
async def create(request: Request, acting: Editing) -> Response:
    """A new budget."""
    session, form = acting
    try:
        window = WINDOWS.get(form.get("window", ""), WINDOWS["total"])[1]
        told = {**subject_from(form), **window, **_changeable(form)}
        await set_budget(body_of(NewBudget, told), gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _form(request, session, form, error)
    return to(request, "/budgets", "The budget is set, on all workers.")


@router.get("/{budget_id}")
async def show(budget_id: PathId, request: Request, session: Visitor) -> Response:
    """One budget, its level, and a form to change it."""
    return await _one(request, session, budget_id)


@router.post("/{budget_id}")
async def change(budget_id: PathId, request: Request, acting: Editing) -> Response:
    """Another amount, or another kind of bound."""
    session, form = acting
    try:
        await change_budget(budget_id, body_of(BudgetBody, _changeable(form)), gateway_of(request), session.subject)
    except InvalidRequest as error:
        return await _one(request, session, budget_id, form, error)
    return to(request, f"/budgets/{budget_id}", "The budget is changed; what is spent stays spent.")


@router.post("/{budget_id}/delete")
async def remove(budget_id: PathId, request: Request, acting: Editing) -> Response:
    """No budget any more."""
    await remove_budget(budget_id, gateway_of(request), acting.session.subject)
    return to(request, "/budgets", "The budget is gone: nothing bounds that spending here any more.")


def used_share(used_nanousd: int, budget: Budget) -> float:
    """Of its limit; of a limit of 0 everything is used."""
    return used_nanousd / budget.limit_nanousd if budget.limit_nanousd else 1.0


def _changeable(form: Form) -> dict[str, Any]:
    limit = form.get("limit_usd", "").replace(",", "").removeprefix("$")
    if not limit:
        raise InvalidRequest("Give an amount in dollars, such as 25 or 0.5.", param="limit_usd")
    return {
        "limit_usd": limit,
        "hard": form.get("hard", "yes") == "yes",
        "webhook_url": form.get("webhook_url") or None,
    }


async def _form(request: Request, session: Session, form: Form, error: InvalidRequest | None = None) -> Response:
    faults = at_subject(faults_of(error), form) if error is not None else {}
    windows = [(name, said) for name, (said, _) in WINDOWS.items()]
    shown = {"form": form, "faults": faults, "windows": windows, "subjects": await subjects_of(gateway_of(request))}
    return page(request, "budget_new.html", session, error.http_status if error else 200, **shown)


async def _one(
    request: Request, session: Session, budget_id: str, form: Form | None = None, error: InvalidRequest | None = None
) -> Response:
    gateway = gateway_of(request)
    budget = await gateway.stores.rules.get(Budget, budget_id)
    if budget is None:
        raise NotFound(f"There is no budget '{budget_id[:80]}'.")
    (level,) = await levels_of([budget], gateway.gauges)
    course = await burn_down(gateway.engine, budget)
    shown: dict[str, Any] = {
        "level": level,
        "course": course,
        "chart": burning(course),
        "used": used_share(level.spent_nanousd + level.reserved_nanousd, budget),
        "names": await names_of(gateway.stores),
        "form": form or _as_form(budget),
        "faults": faults_of(error) if error is not None else {},
    }
    return page(request, "budget.html", session, error.http_status if error else 200, **shown)


def burning(course: BurnDown) -> dict[str, Any] | None:
    """What was left at the end of each step, beside nothing; None where the log can't tell, as for tags."""
    if course.points is None:
        return None
    left = [max(course.limit_nanousd - spent, 0) / 1e9 for spent in course.points]
    at = [course.start + (step + 1) * course.step_s for step in range(len(left))]
    return chart(at, series("Left", left, lambda dollars: usd(dollars * 1e9)), unit="usd")


def _as_form(budget: Budget) -> dict[str, str]:
    limit = f"{budget.limit_nanousd / 1e9:.9f}".rstrip("0").rstrip(".")
    return {"limit_usd": limit, "hard": "yes" if budget.hard else "no", "webhook_url": budget.webhook_url or ""}
