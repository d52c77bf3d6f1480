"""The router that always wants one model: the straw man, and the way to pin a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from policies.schema import RouterSpec
from routers.decision import Candidate, Forecast, Query
from routers.prior import output_prior, prior_forecast


class Fixed:
    """Quality 1 for the configured model and half of its prior for every other, so those follow in prior order.

    With a cost or latency weight in the objective another model may still win; to allow no other at all, name only
    this one in the policy's `models`.
    """

    kind: ClassVar[str] = "fixed"
    needs_embedding: ClassVar[bool] = False

    def __init__(self, model: str) -> None:
        self._model = model

    @classmethod
    def from_spec(cls, spec: RouterSpec) -> Self:
        """Needs `model`; raises `ValueError` without it."""
        if not spec.model:
            raise ValueError("kind 'fixed' needs the key 'model', such as model = \"gpt-5\"")
        return cls(spec.model)

    def forecast(self, query: Query, candidates: Sequence[Candidate]) -> list[Forecast]:
        """One forecast per candidate, in order; certain, since nothing is estimated."""
        output = output_prior(query)
        return [prior_forecast(candidate, self._quality(candidate), 0.0, output) for candidate in candidates]

    def reason(self, query: Query) -> str:
        """The same sentence for every query."""
        return f"The policy fixes the model '{self._model}'."

    def _quality(self, candidate: Candidate) -> float:
        return 1.0 if candidate.card.id == self._model else 0.5 * candidate.card.prior_quality
