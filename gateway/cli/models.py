"""`fingerpost models`: the catalogue as this environment can use it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.fleet import usable_fleet, written_refusal
from gateway.cli.output import print_json, print_table, settings_or_fail
from gateway.providers.base import Target
from gateway.settings import Settings

# What fits a line of 80 characters; the rest is in the JSON.
COLUMNS = ("model", "endpoint", "in $/M", "out $/M", "state")


def models(
    everything: Annotated[bool, typer.Option("--all", help="Also what is not enabled, with the reason.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models and endpoints, with prices, and what each disabled one lacks."""
    settings = settings_or_fail()
    fleet = usable_fleet(settings)
    rows = []
    for row in fleet.catalogue.endpoint:
        card = fleet.catalogue.card(row.model)
        reason = fleet.disabled.get(row.id)
        if card is None or (reason and not (everything or as_json)):
            continue
        price = card.prices()
        rows.append(
            {
                "model": card.id,
                "endpoint": row.id,
                "provider": row.provider,
                "context": card.context_tokens,
                "in $/M": price.price_in_usd_per_mtok,
                "out $/M": price.price_out_usd_per_mtok,
                "prices": price.named(),
                "price since": card.price_since(),
                "price rows": [one.model_dump(mode="json", exclude_none=True) for one in card.price],
                "state": reason or _state(settings, fleet.targets.get(row.id)),
            }
        )
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, ([row[column] for column in COLUMNS] for row in rows))
        if not everything and fleet.disabled:
            print(f"{len(fleet.disabled)} more are not enabled; --all says why.")


def _state(settings: Settings, target: Target | None) -> str:
    refused = written_refusal(settings, target.base_url if target is not None else None)
    return f"never called: {refused}" if refused else "enabled"
