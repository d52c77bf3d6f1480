"""`fingerpost budget`: budgets, straight in the database."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from gateway.admission.rule_checks import check_budget, check_subject, to_nanousd, window_of
from gateway.admission.rules import Budget, Period, Scope, WindowKind
from gateway.admission.stores import Stores
from gateway.api.admin.shown import shown_budget
from gateway.cli.output import fail, print_fields, print_json, print_rows, print_updated
from gateway.cli.stores import Json, actor, known, with_stores

app = typer.Typer(help="Budgets.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The budget's id.")]
ScopeId = Annotated[str, typer.Argument(help="An id of organisation, team or key, a model's id, or a tag.")]
Webhook = Annotated[str | None, typer.Option(help="Where to tell that it is spent; '' for nowhere.")]


@app.command()
def create(
    scope: Annotated[Scope, typer.Argument(help="Whose spending it bounds.")],
    scope_id: ScopeId,
    limit_usd: Annotated[str, typer.Argument(help="Dollars in each window.")],
    window: Annotated[WindowKind, typer.Option(help="How it starts afresh.")] = WindowKind.TOTAL,
    period: Annotated[Period | None, typer.Option(help="Of a calendar window, in UTC.")] = None,
    window_s: Annotated[int | None, typer.Option(help="Seconds of a rolling window.")] = None,
    hard: Annotated[bool, typer.Option("--hard/--soft", help="Refuse, or only warn.")] = True,
    webhook_url: Webhook = None,
    as_json: Json = False,
) -> None:
    """Set a budget; running gateways keep it at once."""
    names = known(None)

    async def work(stores: Stores) -> Budget:
        kept = window_of(window, period, window_s)
        budget = Budget("", scope, scope_id, to_nanousd(_dollars(limit_usd)), kept, hard, webhook_url or None)
        check_budget(budget)
        check_subject(scope, scope_id, names)
        return await stores.rules.create(budget, actor=actor())

    row = with_stores(work)
    print_json(shown_budget(row)) if as_json else print_fields({"id": row.id, "limit_usd": limit_usd})


@app.command("list")
def list_budgets(
    scope: Annotated[Scope | None, typer.Option(help="Of this scope only.")] = None,
    scope_id: Annotated[str | None, typer.Option(help="Of this subject only.")] = None,
    as_json: Json = False,
) -> None:
    """All budgets."""
    rows = [shown_budget(row) for row in with_stores(lambda stores: stores.rules.list(Budget, scope, scope_id))]
    columns = ("id", "scope", "scope_id", "limit_usd", "window", "period", "window_s", "hard")
    print_rows(columns, rows, as_json=as_json)


@app.command()
def update(
    budget_id: Id,
    limit_usd: Annotated[str | None, typer.Option(help="Dollars in each window.")] = None,
    hard: Annotated[bool | None, typer.Option("--hard/--soft", help="Refuse, or only warn.")] = None,
    webhook_url: Webhook = None,
    as_json: Json = False,
) -> None:
    """Change what is given; what is spent stays spent."""
    given: dict[str, Any] = {} if hard is None else {"hard": hard}
    if webhook_url is not None:
        given["webhook_url"] = webhook_url or None

    def edit(old: Budget) -> Budget:
        limit = old.limit_nanousd if limit_usd is None else to_nanousd(_dollars(limit_usd))
        new = replace(old, **given, limit_nanousd=limit)
        check_budget(new)
        return new

    row = with_stores(lambda stores: stores.rules.update(Budget, budget_id, edit, actor=actor()))
    print_updated("budget", budget_id, row, shown_budget, as_json=as_json)


@app.command()
def delete(budget_id: Id) -> None:
    """Remove a budget."""
    if not with_stores(lambda stores: stores.rules.delete(Budget, budget_id, actor=actor())):
        fail(f"there is no budget '{budget_id}'", code=1)
    print(f"{budget_id} is deleted")


def _dollars(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        fail(f"'{text}' is no number of dollars")
