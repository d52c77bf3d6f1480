"""Small planted outcomes, and each learned kind fitted on them once a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from policies.catalogue import Endpoint, ModelCard
from routers.decision import Candidate, Features, Query
from routers.find import kinds, router_class
from routers.learned import LearnedRouter
from routers.training.dataset import Dataset
from routers.training.simulator import make_world, simulate

DIMENSIONS = 16
# What a kind need not do at length to be tried.
QUICK: Mapping[str, Mapping[str, Any]] = {
    "graph": {"epochs": 3},
    "bandit": {"prior": "ridge", "prior_settings": {"penalty": 3.0}},
    "cascade": {"base": "ridge", "base_settings": {"penalty": 3.0}},
    "graphrouter": {"steps": 20},
    "matrix_factorization": {"rank": 2},
}


def learned_kinds() -> list[str]:
    """Names of the kinds that learn."""
    return [name for name in kinds() if issubclass(router_class(name), LearnedRouter)]


def learned_class(kind: str) -> type[LearnedRouter]:
    """The class of a kind that learns."""
    found = router_class(kind)
    assert issubclass(found, LearnedRouter)
    return found


@cache
def outcomes(queries: int = 160, models: int = 5) -> Dataset:
    """A dense set; the same every time."""
    return simulate(make_world(models=models, dimensions=DIMENSIONS, skills=3), queries, seed=1).dataset


def fit(kind: str, data: Dataset, seed: int = 0) -> LearnedRouter:
    """A router of a kind, quickly."""
    return learned_class(kind).fit(data, seed=seed, settings=QUICK.get(kind))


@cache
def fitted(kind: str) -> LearnedRouter:
    """The router of a kind on `outcomes()`."""
    return fit(kind, outcomes())


def stranger(**facts: Any) -> ModelCard:
    """A model that nothing was learned of."""
    return ModelCard(id="a-stranger", context_tokens=10_000, **facts)


def candidate(card: ModelCard) -> Candidate:
    """An endpoint of it."""
    return Candidate(Endpoint(id=f"{card.id}-endpoint", model=card.id, provider="local"), card, 500.0)


def query(data: Dataset, place: int) -> Query:
    """A row of the data as the gateway would ask it."""
    text, tokens = data.texts[place], int(data.inputs.tokens[place])
    return Query(text, Features(tokens=tokens, chars=len(text)), embedding=np.array(data.inputs.embeddings[place]))
