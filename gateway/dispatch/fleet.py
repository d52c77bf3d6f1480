"""The catalogue as this process can use it: endpoints whose references resolve, bound to their providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.providers.base import Provider, Target
from policies.catalogue import ENV_PREFIX, Catalogue, Endpoint, ModelCard, Task


@dataclass(frozen=True, slots=True)
class Fleet:
    """All usable targets by endpoint id, and for each endpoint that is not usable the reason."""

    catalogue: Catalogue
    targets: Mapping[str, Target]
    disabled: Mapping[str, str]

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
    resolve: Callable[[str], str | None],
    local_fault: Callable[[ModelCard, Endpoint], str | None],
) -> Fleet:
    """Bind each endpoint to its provider; `resolve` looks environment names up, `local_fault` says why not local."""
    targets: dict[str, Target] = {}
    disabled: dict[str, str] = {}
    for row in catalogue.endpoint:
        card = catalogue.card(row.model)
        fault = _fault(row, providers, resolve)
        if card is not None and fault is None and row.provider == "local":
            fault = local_fault(card, row)
        if card is None or fault is not None:
            disabled[row.id] = fault or f"model '{row.model}' is not in the catalogue"
            continue
        targets[row.id] = Target(
            endpoint=row,
            card=card,
            provider=providers[row.provider],
            base_url=_resolved(row.base_url, resolve),
            api_key=_resolved(row.key_ref, resolve),
        )
    return Fleet(catalogue, targets, disabled)


def _fault(row: Endpoint, providers: Mapping[str, Provider], resolve: Callable[[str], str | None]) -> str | None:
    if not row.enabled:
        return "switched off in the catalogue (enabled = false)"
    if row.provider not in providers:
        return f"provider '{row.provider}' is not known; known: {', '.join(sorted(providers))}"
    unset = [name for name in row.env_names() if not resolve(name)]
    if unset:
        return f"needs {' and '.join(unset)} in the environment"
    return _url_fault(row, resolve) or _key_fault(row, resolve)


def _url_fault(row: Endpoint, resolve: Callable[[str], str | None]) -> str | None:
    url = _resolved(row.base_url, resolve)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return None
    except ValueError:
        pass
    return f"its base_url must be a URL such as http://host:port/v1, not '{url[:80]}'"


def _key_fault(row: Endpoint, resolve: Callable[[str], str | None]) -> str | None:
    key = _resolved(row.key_ref, resolve)
    if key is None or (key.isascii() and key.isprintable() and " " not in key):
        return None
    return f"the value of {(row.key_ref or '').removeprefix(ENV_PREFIX)} holds letters that no key has: paste it again"


def _resolved(value: str | None, resolve: Callable[[str], str | None]) -> str | None:
    if value is not None and value.startswith(ENV_PREFIX):
        return resolve(value.removeprefix(ENV_PREFIX))
    return value
