"""The catalogue as this process can use it: endpoints whose references resolve, bound to their providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.providers.base import Provider, Queues, Target
from gateway.redaction import hide_shapes
from policies.catalogue import ENV_PREFIX, Catalogue, Endpoint, ModelCard, Task

Resolver = Callable[[str], str | None]


def _no_secret(_: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Fleet:
    """All usable targets by endpoint id, and for each endpoint that is not usable the reason.

    Both change in place when a stored key does (`resolve_secrets`); the order is the catalogue's.
    """

    catalogue: Catalogue
    targets: dict[str, Target]
    disabled: dict[str, str]

    def of_model(self, model_id: str) -> tuple[Target, ...]:
        """The usable endpoints of one model."""
        return tuple(target for target in self.targets.values() if target.card.id == model_id)

    def why_not(self, model_id: str) -> str:
        """A sentence on why no endpoint of a model can be used, with the fix."""
        reasons = [f"{row.id}: {self.disabled[row.id]}" for row in self.catalogue.endpoint if row.model == model_id]
        return f"No endpoint of '{model_id}' is enabled ({'; '.join(reasons) or 'none exists'})."

    def models(self) -> list[ModelCard]:
        """Cards with at least one usable endpoint, in the catalogue's order."""
        served = {target.card.id for target in self.targets.values()}
        return [card for card in self.catalogue.model if card.id in served]

    def chat_targets(self) -> tuple[Target, ...]:
        """Every usable chat endpoint."""
        return tuple(target for target in self.targets.values() if target.card.task is Task.CHAT)


def gather(
    catalogue: Catalogue,
    providers: Mapping[str, Provider],
    resolve: Resolver,
    local_fault: Callable[[ModelCard, Endpoint], str | None],
    secret: Resolver = _no_secret,
) -> Fleet:
    """Bind each endpoint to its provider; `resolve` looks environment names up, `secret` the names of stored keys,
    `local_fault` says why not local."""
    fleet = Fleet(catalogue, {}, {})
    for row in catalogue.endpoint:
        found = _bound(row, catalogue.card(row.model), providers, resolve, local_fault, secret)
        if isinstance(found, Target):
            fleet.targets[row.id] = found
        else:
            fleet.disabled[row.id] = found
    return fleet


def resolve_secrets(fleet: Fleet, providers: Mapping[str, Provider], resolve: Resolver, secret: Resolver) -> bool:
    """Look the stored keys up again and change the fleet in place; whether any endpoint changed.

    Targets whose key is the same stay the same objects. Whoever keeps targets must then ask the fleet again.
    """
    before = dict(fleet.targets)
    fresh = dict(before)
    for row in fleet.catalogue.endpoint:
        if row.secret_name is None:
            continue
        found = _bound(row, fleet.catalogue.card(row.model), providers, resolve, lambda *_: None, secret)
        fresh.pop(row.id, None)
        fleet.disabled.pop(row.id, None)
        if isinstance(found, Target):
            fresh[row.id] = before[row.id] if before.get(row.id) == found else found
        else:
            fleet.disabled[row.id] = found
    fleet.targets.clear()
    fleet.targets.update({row.id: fresh[row.id] for row in fleet.catalogue.endpoint if row.id in fresh})
    return fresh != before


def _bound(
    row: Endpoint,
    card: ModelCard | None,
    providers: Mapping[str, Provider],
    resolve: Resolver,
    local_fault: Callable[[ModelCard, Endpoint], str | None],
    secret: Resolver,
) -> Target | str:
    """The endpoint with its references resolved, or why it can't be used."""
    if card is None:
        return f"model '{row.model}' is not in the catalogue"
    api_key = secret(row.secret_name) if row.secret_name else _resolved(row.key_ref, resolve)
    fault = _fault(row, providers, resolve) or _url_fault(row, resolve) or _key_fault(row, api_key)
    if fault is None and row.provider == "local":
        fault = local_fault(card, row)
    if fault is not None:
        return fault
    provider = providers[row.provider]
    queue = provider if isinstance(provider, Queues) else None
    return Target(row, card, provider, _resolved(row.base_url, resolve), api_key, queue)


def _fault(row: Endpoint, providers: Mapping[str, Provider], resolve: Resolver) -> str | None:
    if not row.enabled:
        return "switched off in the catalogue (enabled = false)"
    if row.provider not in providers:
        return f"provider '{row.provider}' is not known; known: {', '.join(sorted(providers))}"
    unset = [name for name in row.env_names() if not resolve(name)]
    return f"needs {' and '.join(unset)} in the environment" if unset else None


def _url_fault(row: Endpoint, resolve: Resolver) -> str | None:
    url = _resolved(row.base_url, resolve)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return None
    except ValueError:
        pass
    # As the catalogue has it, not what a reference leads to: clients read this, and a mix-up puts a key there.
    return f"its base_url must be a URL such as http://host:port/v1, not '{hide_shapes(row.base_url or '')[:80]}'"


def _key_fault(row: Endpoint, key: str | None) -> str | None:
    name = row.secret_name
    if name is not None and key is None:
        return f"needs the secret {name}: fingerpost secrets set {name}"
    if key is None or (key.isascii() and key.isprintable() and " " not in key):
        return None
    shown = name or (row.key_ref or "").removeprefix(ENV_PREFIX)
    return f"the value of {shown} holds letters that no key has: paste it again"


def _resolved(value: str | None, resolve: Resolver) -> str | None:
    if value is not None and value.startswith(ENV_PREFIX):
        return resolve(value.removeprefix(ENV_PREFIX))
    return value
