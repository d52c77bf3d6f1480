"""Does a policy fit a catalogue? Says what in it can never take effect; knows no router and no health."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from policies.catalogue import Catalogue, Task
from policies.explain import nearest
from policies.schema import Policy


def check_policy(policy: Policy, catalogue: Catalogue) -> list[str]:
    """Problems as sentences that start with the key path; empty where the policy fits.

    Only the catalogue's rows count, not whether their keys are set: a policy may name models not yet enabled.
    """
    chat = [card.id for card in catalogue.model if card.task is Task.CHAT]
    return [
        *_models(policy, chat),
        *_router(policy, chat),
        *_fallback(policy, chat),
        *_strategies(policy, chat),
        *_bounds(policy, catalogue),
        *_endpoints(policy, catalogue),
    ]


def _models(policy: Policy, chat: list[str]) -> Iterator[str]:
    for pattern in policy.models:
        yield from _matches_some("models", pattern, chat)


def _router(policy: Policy, chat: list[str]) -> Iterator[str]:
    spec = policy.router
    if spec.model is not None and spec.model not in chat:
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


def _strategies(policy: Policy, chat: list[str]) -> Iterator[str]:
    """Models that don't exist, and numbers that max_calls cuts down."""
    named = {f"category[{one.name}].strategy": one.strategy for one in policy.category if one.strategy is not None}
    for where, spec in {"strategy": policy.strategy, **named}.items():
        for pattern in spec.models:
            yield from _matches_some(f"{where}.models", pattern, chat)
        for key, model in (("judge", spec.judge), ("aggregator", spec.aggregator)):
            if model is not None and model not in chat:
                yield f"{where}.{key}: no chat model is called '{model}'{_hint(model, chat)}"
        helped = spec.kind == "fuse" or (spec.kind == "best_of_n" and spec.scorer == "judge")
        most = spec.max_calls - helped
        if spec.kind in ("race", "vote", "best_of_n", "fuse") and spec.n > most:
            yield f"{where}.n: only {most} of {spec.n} are asked, since max_calls is {spec.max_calls}"


def _bounds(policy: Policy, catalogue: Catalogue) -> Iterator[str]:
    """Weights, floors, ceilings and paces that can't act."""
    spec = policy.router
    if spec.confidence > 0.5 and spec.kind in ("fixed", "random_choice"):
        yield f"router.confidence: has no effect with kind '{spec.kind}', which has no forecasts to be sure of"
    if spec.min_trust and spec.artifact is None:
        yield "router.min_trust: has no effect with a kind that has learned nothing"
    for rule in policy.category if policy.pacing is not None else ():
        if not policy.objective_of(rule.name).cost:
            yield f"category[{rule.name}].objective.cost: is 0, so pacing can't make its calls any cheaper"
    unpriced = [card.id for card in catalogue.model if card.task is Task.CHAT and policy.allows(card.id)]
    unpriced = [model for model in unpriced if (card := catalogue.card(model)) is not None and not card.priced]
    if policy.pacing is not None and unpriced:
        yield f"pacing: '{unpriced[0]}' has no price in the catalogue, so its calls are refused under a paced budget"


def _endpoints(policy: Policy, catalogue: Catalogue) -> Iterator[str]:
    served = {row.model for row in catalogue.endpoint if row.enabled}
    allowed = {card.id for card in catalogue.model if card.task is Task.CHAT and policy.allows(card.id)}
    if allowed and not allowed & served:
        yield "models: none of the allowed models has an enabled [[endpoint]] row"


def _matches_some(where: str, pattern: str, chat: list[str]) -> Iterator[str]:
    if not any(fnmatchcase(model, pattern) for model in chat):
        yield f"{where}: '{pattern}' matches no chat model of the catalogue{_hint(pattern, chat)}"


def _hint(name: str, chat: list[str]) -> str:
    near = nearest(name, chat)
    return f"; did you mean '{near}'?" if near else ""
