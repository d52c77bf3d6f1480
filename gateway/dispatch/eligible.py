"""Which endpoints may answer a query at all: capability, context, budget, health. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.dispatch.health import Health
from gateway.providers.base import Target
from policies.catalogue import Modality, ModelCard
from policies.schema import Policy
from routers.decision import Candidate, Features


@dataclass(slots=True)
class Eligible:
    """The candidates, and for every endpoint left out the reason; `unhealthy` are those out for health alone."""

    candidates: list[Candidate] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    unhealthy: list[Candidate] = field(default_factory=list)


def eligible(features: Features, targets: Iterable[Target], policy: Policy, health: Health) -> Eligible:
    """Split targets into candidates and excluded; when only health stands in the way, the paused ones are used."""
    result = Eligible()
    for target in targets:
        fault = lacks(features, target.card) or _over_budget(features, target.card, policy)
        if fault is not None:
            result.excluded[target.endpoint.id] = fault
            continue
        latency_ms = health.latency_ms(target.endpoint.id)
        typical = target.endpoint.typical_latency_ms
        expected_ms = (typical if latency_ms is None else latency_ms) + target.wait_ms()
        candidate = Candidate(target.endpoint, target.card, expected_ms)
        paused_s = health.paused_s(target.endpoint.id)
        if paused_s:
            result.unhealthy.append(candidate)
            result.excluded[target.endpoint.id] = f"paused for {paused_s:.0f} s more after failures in a row"
        else:
            result.candidates.append(candidate)
    if not result.candidates and result.unhealthy:
        result.candidates = result.unhealthy
        for candidate in result.unhealthy:
            del result.excluded[candidate.endpoint.id]
    return result


def lacks(features: Features, card: ModelCard) -> str | None:
    """The first capability of a model that a query needs and the card does not offer."""
    if features.tokens >= card.context_tokens:
        return f"needs about {features.tokens} prompt tokens, the context holds {card.context_tokens}"
    if features.tools and not card.tools:
        return "does not support tools"
    if features.json_schema and not card.json_schema:
        return "does not support response_format with a JSON schema"
    if features.logprobs and not card.logprobs:
        return "does not return logprobs"
    missing = features.modalities.difference(card.modalities)
    if missing:
        return f"does not accept {', '.join(sorted(missing))} input"
    return None


def _over_budget(features: Features, card: ModelCard, policy: Policy) -> str | None:
    limit = policy.budget.max_cost_usd_per_request
    if limit is None:
        return None
    if not card.priced:
        return "has no price in the catalogue, and the policy limits the cost of a request"
    worst = worst_nanousd(features, card)
    if worst > limit * 1e9:
        return f"could cost up to ${worst / 1e9:.4f}, the policy allows ${limit:g} per request; lower max_tokens"
    return None


def worst_nanousd(features: Features, card: ModelCard) -> int:
    """The cost of a call whose answer is as long as request and model allow."""
    output = features.max_output_tokens or card.longest_output
    return card.cost_nanousd(features.tokens, min(output, card.max_output_tokens or output))


def modalities_of(kinds: Iterable[str]) -> frozenset[Modality]:
    """The content kinds of a request as modalities."""
    return frozenset(Modality(kind) for kind in kinds)
