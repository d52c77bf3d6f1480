"""The router an admin writes: the first rule that holds says which models are right; priors order the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import ClassVar, Self

from policies.schema import RouterSpec, Rule
from routers.decision import Candidate, Forecast, Query
from routers.features import explain, matches
from routers.prior import output_prior, prior_forecast

# A prior knows a model's usual standing, not how it does on this query.
_MARGIN = 0.2


class RuleRouter:
    """Quality = prior p where no rule holds; else 0.5 + 0.5 p for preferred models and 0.5 p for the others.

    So a preferred model outranks every other on quality, and priors keep the order within each group.
    """

    kind: ClassVar[str] = "rules"
    needs_embedding: ClassVar[bool] = False

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule, _Preferred(rule.prefer)) for rule in rules]

    @classmethod
    def from_spec(cls, spec: RouterSpec) -> Self:
        """Takes the `rule` rows; without any, priors alone speak."""
        return cls(spec.rule)

    def forecast(self, query: Query, candidates: Sequence[Candidate]) -> list[Forecast]:
        """One forecast per candidate, in order."""
        output = output_prior(query)
        preferred = next((models for rule, models in self._rules if matches(rule.when, query)), None)
        forecasts = []
        for candidate in candidates:
            quality = candidate.card.prior_quality
            if preferred is not None:
                quality = 0.5 * quality + (0.5 if preferred[candidate.card.id] else 0.0)
            forecasts.append(prior_forecast(candidate, quality, _MARGIN, output))
        return forecasts

    def reason(self, query: Query) -> str:
        """Which rule holds and why."""
        rule = next((rule for rule, _ in self._rules if matches(rule.when, query)), None)
        if rule is None:
            return "No rule matched; models stand by their prior quality."
        return f"Rule '{rule.name}' matched: {explain(rule.when, query)}."


class _Preferred(dict[str, bool]):
    """Whether a rule prefers a model, worked out once a model id; as many entries as the catalogue has models."""

    def __init__(self, patterns: Sequence[str]) -> None:
        super().__init__()
        self._pattern = re.compile("|".join(map(translate, patterns)))

    def __missing__(self, model_id: str) -> bool:
        return self.setdefault(model_id, self._pattern.match(model_id) is not None)
