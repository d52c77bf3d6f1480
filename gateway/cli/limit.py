"""`fingerpost limit`: rate limits, straight in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from gateway.admission.rule_checks import check_limit, check_subject
from gateway.admission.rules import RateLimit, Scope
from gateway.admission.stores import Stores
from gateway.api.admin.shown import shown_limit
from gateway.cli.output import fail, print_fields, print_json, print_rows, print_updated
from gateway.cli.stores import Json, actor, known, with_stores

app = typer.Typer(help="Rate limits.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The limit's id.")]
ScopeId = Annotated[str, typer.Argument(help="An id of organisation, team or key, a model's id, or a tag.")]
Requests = Annotated[int | None, typer.Option(help="Requests per minute; 0 for no bound.")]
Tokens = Annotated[int | None, typer.Option(help="Tokens per minute; 0 for no bound.")]
Concurrent = Annotated[int | None, typer.Option(help="Requests at once; 0 for no bound.")]


@app.command()
def create(
    scope: Annotated[Scope, typer.Argument(help="Whose calling it bounds.")],
    scope_id: ScopeId,
    rpm: Requests = None,
    tpm: Tokens = None,
    concurrent: Concurrent = None,
    as_json: Json = False,
) -> None:
    """Set the rate limit of a subject, which has at most one."""
    names = known(None)

    async def work(stores: Stores) -> RateLimit:
        limit = RateLimit("", scope, scope_id, rpm or None, tpm or None, concurrent or None)
        check_limit(limit)
        check_subject(scope, scope_id, names)
        return await stores.rules.create(limit, actor=actor())

    row = with_stores(work)
    print_json(shown_limit(row)) if as_json else print_fields({"id": row.id})


@app.command("list")
def list_limits(
    scope: Annotated[Scope | None, typer.Option(help="Of this scope only.")] = None,
    scope_id: Annotated[str | None, typer.Option(help="Of this subject only.")] = None,
    as_json: Json = False,
) -> None:
    """All rate limits."""
    rows = [shown_limit(row) for row in with_stores(lambda stores: stores.rules.list(RateLimit, scope, scope_id))]
    columns = ("id", "scope", "scope_id", "requests_per_minute", "tokens_per_minute", "concurrent_requests")
    print_rows(columns, rows, as_json=as_json)


@app.command()
def update(
    limit_id: Id, rpm: Requests = None, tpm: Tokens = None, concurrent: Concurrent = None, as_json: Json = False
) -> None:
    """Change what is given; running gateways follow at once."""
    bounds = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrent_requests": concurrent}
    given: dict[str, Any] = {name: bound or None for name, bound in bounds.items() if bound is not None}

    def edit(old: RateLimit) -> RateLimit:
        new = replace(old, **given)
        check_limit(new)
        return new

    row = with_stores(lambda stores: stores.rules.update(RateLimit, limit_id, edit, actor=actor()))
    print_updated("rate limit", limit_id, row, shown_limit, as_json=as_json)


@app.command()
def delete(limit_id: Id) -> None:
    """Remove a rate limit."""
    if not with_stores(lambda stores: stores.rules.delete(RateLimit, limit_id, actor=actor())):
        fail(f"there is no rate limit '{limit_id}'", code=1)
    print(f"{limit_id} is deleted")
