"""The fleet as a running gateway would have it: with the keys that are stored in the database."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from gateway.build import build
from gateway.cli.database import database_file
from gateway.dispatch.fleet import Fleet, resolve_secrets
from gateway.ledger.faults import DatabaseUnavailable
from gateway.outbound import AddressRefused, OutboundGuard, literal_address
from gateway.settings import Settings, environment_value
from gateway.state import Gateway


def usable_fleet(settings: Settings) -> Fleet:
    """Build, look the stored keys up, and let go of the database again."""
    gateway = build(settings.model_copy(update={"redis_url": ""}))  # a fleet needs none

    async def look() -> None:
        try:
            await use_stored_keys(gateway)
        finally:
            await gateway.engine.dispose()

    asyncio.run(look())
    return gateway.fleet


async def use_stored_keys(gateway: Gateway) -> None:
    """Enable what has its key in the database; where that is away, or not made yet, such endpoints stay disabled."""
    path = database_file(gateway.settings)
    if not any(row.secret_name for row in gateway.fleet.catalogue.endpoint) or (path and not path.exists()):
        return
    try:
        await gateway.stores.secrets.load()
    except DatabaseUnavailable:
        return
    resolve_secrets(gateway.fleet, gateway.providers, environment_value, gateway.stores.secrets.value)


def written_refusal(settings: Settings, url: str | None) -> str | None:
    """Why the gateway would not call a URL, as far as the URL itself tells; names are not looked up."""
    address = literal_address(urlsplit(url or "").hostname or "")
    if address is None:
        return None
    return OutboundGuard.from_text(settings.private_networks).refusal(address)


async def refusal(settings: Settings, url: str) -> str | None:
    """Why the gateway would not call a URL, after looking its name up; None where it would, or nothing is known."""
    parts = urlsplit(url)
    try:
        await OutboundGuard.from_text(settings.private_networks).resolve(parts.hostname or "", parts.port or 443)
    except AddressRefused as error:
        return str(error)
    except (OSError, UnicodeError):
        return None
    return None
