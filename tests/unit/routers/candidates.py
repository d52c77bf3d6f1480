"""Builds candidates and queries for tests of routing."""

from __future__ import annotations

from dataclasses import replace

from policies.catalogue import Endpoint, ModelCard
from routers.decision import Candidate, Features, Forecast, Query


def candidate(
    model: str,
    endpoint: str = "",
    *,
    price: float | None = 1.0,
    prior: float = 0.5,
    weight: float = 1.0,
    latency_ms: float = 1000.0,
    max_output: int | None = None,
) -> Candidate:
    """An endpoint of a model whose input and output cost `price` USD per million tokens; None for unknown."""
    card = ModelCard(
        id=model,
        context_tokens=100_000,
        max_output_tokens=max_output,
        price_in_usd_per_mtok=price,
        price_out_usd_per_mtok=price,
        prior_quality=prior,
    )
    row = Endpoint(id=endpoint or f"{model}-endpoint", model=model, provider="local", weight=weight)
    return Candidate(row, card, latency_ms)


def forecast(of: Candidate, quality: float, output_tokens: int = 100, latency_ms: float = 1000.0) -> Forecast:
    """A certain forecast for a candidate."""
    return Forecast(of.endpoint.id, quality, quality, quality, output_tokens, 2 * output_tokens, latency_ms)


def query(text: str = "hello", category: str = "general", **features: object) -> Query:
    """A query of 100 tokens unless said otherwise."""
    plain = Features(tokens=100, chars=len(text))
    return Query(text, replace(plain, **features), category)  # type: ignore[arg-type] # fields by name
