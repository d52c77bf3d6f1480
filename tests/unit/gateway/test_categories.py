"""Categories: predicates first, then the nearest example above its own threshold."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from gateway.cache.categories import Categoriser
from policies.schema import Policy
from routers.decision import Features, Query

POLICY = Policy.model_validate(
    {
        "schema": 1,
        "name": "p",
        "default_category": "other",
        "category": [
            {"name": "code", "when": {"code": True}},
            {"name": "north", "examples": ["n1", "n2"], "min_similarity": 0.9},
            {"name": "east", "examples": ["e1"], "min_similarity": 0.5},
        ],
    }
)
DIRECTIONS = {"n1": (0.0, 1.0), "n2": (-0.6, 0.8), "e1": (1.0, 0.0)}


async def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([DIRECTIONS[text] for text in texts], dtype=np.float32)


def query(x: float | None = None, y: float = 0.0, code: bool = False) -> Query:
    vector = None if x is None else np.array([x, y], dtype=np.float32)
    return Query(text="q", features=Features(tokens=1, chars=1, code=code), embedding=vector)


def category_of(categoriser: Categoriser, asked: Query) -> str:
    return categoriser.by_predicate(asked) or categoriser.by_example(asked.embedding)


@pytest.mark.parametrize(
    ("asked", "category"),
    [
        (query(0.0, 1.0), "north"),
        (query(-0.6, 0.8), "north"),
        (query(0.8, 0.6), "east"),
        (query(0.4, -0.9), "other"),
        (query(0.0, 1.0, code=True), "code"),
        (query(), "other"),
    ],
)
async def test_the_category_of_a_query(asked: Query, category: str) -> None:
    categoriser = Categoriser(POLICY)
    await categoriser.prepare(embed)

    assert category_of(categoriser, asked) == category


async def test_until_examples_are_embedded_predicates_decide() -> None:
    categoriser = Categoriser(POLICY)

    assert not categoriser.ready
    assert category_of(categoriser, query(0.0, 1.0)) == "other"
    assert category_of(categoriser, query(code=True)) == "code"


def test_a_policy_without_examples_never_needs_an_embedding() -> None:
    plain = replace_categories([])

    assert Categoriser(plain).ready
    assert not Categoriser(plain).needs_embedding
    assert Categoriser(POLICY).needs_embedding


def replace_categories(rules: list[object]) -> Policy:
    body = POLICY.model_dump(by_alias=True)
    return Policy.model_validate(body | {"category": rules})
