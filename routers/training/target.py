"""What a policy would have done on logged queries: the probability of each model, by the very code that decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policies.catalogue import Endpoint
from policies.schema import Policy
from routers.base import Router
from routers.choose import choose
from routers.decision import Candidate, Features, Forecast, Query
from routers.inputs import FACTS
from routers.learned import LearnedRouter, forecasts_of
from routers.training.dataset import Dataset, Doubles

_CODE, _TOOLS = FACTS.index("code"), FACTS.index("tools")


def probabilities(policy: Policy, router: Router, dataset: Dataset) -> Doubles:
    """[Q, M] the chance of each model to be asked first; 0 for models that the policy does not allow.

    Every model counts as one endpoint of usual latency; the budget's pace is left out. `ValueError` where the policy
    allows none of the models.
    """
    places = [place for place, card in enumerate(dataset.models) if policy.allows(card.id)]
    if not places:
        raise ValueError(f"policy '{policy.name}' allows none of the models in '{dataset.name}'")
    pool = [_candidate(dataset, place) for place in places]
    column = {one.endpoint.id: place for one, place in zip(pool, places, strict=True)}
    found = np.zeros((len(dataset), len(dataset.models)))
    rng = random.Random(0)  # what is drawn does not matter: every candidate's propensity is told
    for row, told in enumerate(_forecasts(router, dataset, pool)):
        query = _query(dataset, row)
        decision = choose(policy, router.kind, query, pool, told or router.forecast(query, pool), "", rng)
        for ranked in decision.ranking:
            found[row, column[ranked.candidate.endpoint.id]] = ranked.propensity
    return found


def _forecasts(router: Router, dataset: Dataset, pool: Sequence[Candidate]) -> list[list[Forecast] | None]:
    """Of a router that predicts from inputs all at once, since logs need not keep texts; None: it has to be asked."""
    if not isinstance(router, LearnedRouter):
        return [None] * len(dataset)
    told = router.predict(dataset.inputs, [one.card for one in pool])
    names = ("quality", "low", "high", "tokens", "tokens_high", "latency_ms", "trust")
    rows = (
        replace(told, **{name: getattr(told, name)[row : row + 1] for name in names}) for row in range(len(dataset))
    )
    return [forecasts_of(_query(dataset, row), pool, one) for row, one in enumerate(rows)]


def _candidate(dataset: Dataset, place: int) -> Candidate:
    card = dataset.models[place]
    endpoint = Endpoint(id=f"m{place}", model=card.id, provider="local")
    return Candidate(endpoint, card, endpoint.typical_latency_ms)


def _query(dataset: Dataset, row: int) -> Query:
    facts, text = dataset.inputs.facts[row], dataset.texts[row]
    features = Features(
        tokens=int(dataset.inputs.tokens[row]), chars=len(text), code=bool(facts[_CODE]), tools=bool(facts[_TOOLS])
    )
    return Query(text, features, category=dataset.tasks[row], embedding=dataset.inputs.embeddings[row])
