"""The router that cannot tell models apart: the uniform baseline of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from policies.schema import RouterSpec
from routers.decision import Candidate, Forecast, Query
from routers.prior import output_prior, prior_forecast

_UNKNOWN = 0.5


class RandomChoice:
    """Forecasts the same quality and latency for every candidate; `choose` then shares ties by endpoint weight.

    Deterministic itself. Traffic is uniform under an objective of quality alone; with a cost weight the cheapest
    candidate is ahead, since prices are facts and no forecast.
    """

    kind: ClassVar[str] = "random_choice"
    needs_embedding: ClassVar[bool] = False

    @classmethod
    def from_spec(cls, spec: RouterSpec) -> Self:
        """Needs nothing."""
        return cls()

    def forecast(self, query: Query, candidates: Sequence[Candidate]) -> list[Forecast]:
        """One forecast per candidate, in order, with the widest interval and the mean latency."""
        output = output_prior(query)
        mean_ms = sum(candidate.latency_ms for candidate in candidates) / max(len(candidates), 1)
        return [
            prior_forecast(Candidate(one.endpoint, one.card, mean_ms), _UNKNOWN, _UNKNOWN, output) for one in candidates
        ]

    def reason(self, query: Query) -> str:
        """The same sentence for every query."""
        return "All candidates count as equally good."
