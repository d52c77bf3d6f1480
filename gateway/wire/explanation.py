"""A decision as a person or a program reads it."""

from __future__ import annotations

from typing import Any

from gateway.ledger.record import Record
from routers.decision import Decision, Query, Ranked


def explanation(query: Query, decision: Decision, record: Record) -> dict[str, Any]:
    """The body of `POST /v1/route`; costs in US dollars, times in milliseconds."""
    features = query.features
    return {
        "object": "route.explanation",
        "request_id": record.id,
        "model": record.model_requested,
        "policy": decision.policy_name,
        "policy_sha256": decision.policy_sha256,
        "router": decision.router_kind,
        "artifact_sha256": decision.artifact_sha256,
        "category": query.category,
        "features": {
            "prompt_tokens": features.tokens,
            "turns": features.turns,
            "language": features.language,
            "code": features.code,
            "tools": features.tools,
            "modalities": sorted(features.modalities),
            "embedded": query.embedding is not None,
        },
        "chosen": {"model": decision.chosen.candidate.card.id, "endpoint": decision.chosen.candidate.endpoint.id},
        "strategy": record.strategy or "single",
        "reason": record.reason or decision.reason,
        "candidates": [_candidate(one) for one in decision.ranking],
        "excluded": [{"endpoint": endpoint, "reason": reason} for endpoint, reason in decision.excluded.items()],
        "timings_ms": {"embedding": record.embed_ms, "routing": record.route_ms},
    }


def _candidate(one: Ranked) -> dict[str, Any]:
    forecast = one.forecast
    return {
        "endpoint": one.candidate.endpoint.id,
        "model": one.candidate.card.id,
        "provider": one.candidate.endpoint.provider,
        "score": one.score,
        "propensity": one.propensity,
        "quality": {"mean": forecast.quality, "low": forecast.quality_low, "high": forecast.quality_high},
        "output_tokens": {
            "median": forecast.output_tokens,
            "mean": forecast.expected_output_tokens,
            "high": forecast.output_tokens_high,
        },
        "latency_ms": forecast.latency_ms,
        "cost_usd": one.cost_nanousd / 1e9 if one.candidate.card.priced else None,
        "cost_high_usd": one.cost_high_nanousd / 1e9 if one.candidate.card.priced else None,
    }
