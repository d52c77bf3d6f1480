"""How commands reach what admins write, straight in the database, and under which name they do so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

from gateway.admission.stores import Stores, open_stores
from gateway.admission.terms import TAGS, Known, RefusedField, SecretKeyError
from gateway.build import catalogue_of
from gateway.cli.database import existing_database
from gateway.cli.output import fail, settings_or_fail
from gateway.cli.policy import author, in_force
from gateway.ledger.engine import open_engine

Result = TypeVar("Result")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Policy = Annotated[str | None, typer.Option(help="The policy it uses; '' for that of whoever stands above.")]
Model = Annotated[list[str] | None, typer.Option(help="A model it may use; repeat for more; '' for all.")]
Days = Annotated[int | None, typer.Option(min=0, max=36500, help="Days until it expires; 0 for never.")]
Tag = Annotated[list[str] | None, typer.Option(help="A tag that all its requests count under; repeat; '' for none.")]
Metadata = Annotated[str | None, typer.Option(help="A JSON object, for people.")]


def with_stores(work: Callable[[Stores], Awaitable[Result]]) -> Result:
    """Run a piece of work on the configured database; what is refused ends in one clear line."""
    settings = settings_or_fail()
    url = existing_database(settings)
    keys = settings.secret_keys.get_secret_value() if settings.secret_keys else ""

    async def run() -> Result:
        engine = open_engine(url)
        try:
            return await work(open_stores(engine, keys))
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except (RefusedField, SecretKeyError) as error:
        fail(str(error))


def actor() -> str:
    """Who acts, for the audit log."""
    return f"cli:{author()}"


def known(policy: str | None) -> Known:
    """What terms may name; policies are looked for only where one is named."""
    policies = [name for name in in_force() if "@" not in name] if policy else []
    return Known(policies, {card.id for card in catalogue_of(settings_or_fail()).model})


def given_terms(
    name: str | None,
    policy: str | None,
    models: Sequence[str] | None,
    days: int | None,
    metadata: str | None,
) -> dict[str, Any]:
    """The terms that options give; an empty option takes away what was set."""
    given: dict[str, Any] = {} if name is None else {"name": name}
    if policy is not None:
        given["policy"] = policy or None
    if models:
        given["allowed_models"] = tuple(models) if any(models) else None
    if days is not None:
        given["expires_at"] = datetime.now(UTC) + timedelta(days=days) if days else None
    if metadata is not None:
        given["metadata"] = _object(metadata)
    return given


def with_tags(metadata: Mapping[str, Any], tags: Sequence[str] | None) -> dict[str, Any]:
    """Metadata with other tags, where any are given."""
    if not tags:
        return dict(metadata)
    rest = {name: value for name, value in metadata.items() if name != TAGS}
    return {**rest, TAGS: list(tags)} if any(tags) else rest


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        fail("--metadata must be a JSON object")
    return found
