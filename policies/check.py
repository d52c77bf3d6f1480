"""Does a policy fit a catalogue? Says what in it can never take effect; knows no router and no health."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from policies.catalogue import Catalogue, Task
from policies.explain import nearest
from policies.schema import CacheMode, Policy


def check_policy(policy: Policy, catalogue: Catalogue) -> list[str]:
    """Problems as sentences that start with the key path; empty where the policy fits.

    Only the catalogue's rows count, not whether their keys are set: a policy may name models not yet enabled.
    """
    chat = [card.id for card in catalogue.model if card.task is Task.CHAT]
    return [
        *_models(policy, chat),
        *_router(policy, chat),
        *_fallback(policy, chat),
        *_endpoints(policy, catalogue),
        *_cache(policy),
    ]


def _models(policy: Policy, chat: list[str]) -> Iterator[str]:
    for pattern in policy.models:
        yield from _matches_some("models", pattern, chat)


def _router(policy: Policy, chat: list[str]) -> Iterator[str]:
    spec = policy.router
    if spec.kind == "fixed" and spec.model is not None and spec.model not in chat:
        yield f"router.model: no chat model is called '{spec.model}'{_hint(spec.model, chat)}"
    for rule in spec.rule:
        for pattern in rule.prefer:
            yield from _matches_some(f"router.rule[{rule.name}].prefer", pattern, chat)
        if not any(policy.allows(model) for model in chat if any(fnmatchcase(model, one) for one in rule.prefer)):
            yield f"router.rule[{rule.name}].prefer: no model that it prefers is allowed by the policy's models"


def _fallback(policy: Policy, chat: list[str]) -> Iterator[str]:
    for model in policy.fallback.models:
        if model not in chat:
            yield f"fallback.models: no chat model is called '{model}'{_hint(model, chat)}"
    hedge_ms = policy.fallback.hedge_after_ms
    if hedge_ms is not None and not policy.fallback.enabled:
        yield "fallback.hedge_after_ms: has no effect while fallback.enabled is false"
    elif hedge_ms is not None and hedge_ms >= policy.fallback.deadline_s * 1000:
        yield "fallback.hedge_after_ms: has no effect, since fallback.deadline_s ends before"


def _endpoints(policy: Policy, catalogue: Catalogue) -> Iterator[str]:
    served = {row.model for row in catalogue.endpoint if row.enabled}
    allowed = {card.id for card in catalogue.model if card.task is Task.CHAT and policy.allows(card.id)}
    if allowed and not allowed & served:
        yield "models: none of the allowed models has an enabled [[endpoint]] row"


def _cache(policy: Policy) -> Iterator[str]:
    rules = {"cache.mode": policy.cache, **{f"category[{one.name}].cache.mode": one.cache for one in policy.category}}
    for where, rule in rules.items():
        if rule.mode is not CacheMode.OFF:
            yield f"{where}: '{rule.mode}' has no effect: this version caches no answers"


def _matches_some(where: str, pattern: str, chat: list[str]) -> Iterator[str]:
    if not any(fnmatchcase(model, pattern) for model in chat):
        yield f"{where}: '{pattern}' matches no chat model of the catalogue{_hint(pattern, chat)}"


def _hint(name: str, chat: list[str]) -> str:
    near = nearest(name, chat)
    return f"; did you mean '{near}'?" if near else ""
