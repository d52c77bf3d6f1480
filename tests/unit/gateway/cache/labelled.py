"""A small labelled stream of our own: facts about places, asked in several ways; opposites and numbers differ."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from gateway.cache.partition import Vector
from gateway.cache.replay import StreamRow
from local_runtime.embedders.hashing import HashingEmbedder

PLACES = ("Oslo", "Paris", "Lima", "Cairo", "Quito", "Delhi", "Bern", "Hanoi", "Dakar", "Riga")
ASKED = (
    ("what is the population of {}", "population of {}", "the population of {}, please"),
    ("what is the tallest building in {}", "tallest building of {}", "the tallest building in {}, please"),
    ("what is the shortest building in {}", "shortest building of {}", "the shortest building in {}, please"),
    ("find 3 hotels in {}", "three hotels in {}", "please find three hotels in {}"),
    ("find 30 hotels in {}", "thirty hotels in {}", "please find thirty hotels in {}"),
)


def stream() -> list[StreamRow]:
    """150 rows of 50 classes in two categories, shuffled alike each time."""
    found = []
    for (number, ways), place in product(enumerate(ASKED), PLACES):
        category = "numbers" if number > 2 else "facts"
        found += [(way.format(place), category, f"{number} {place}") for way in ways]
    order = np.random.default_rng(0).permutation(len(found))
    return [StreamRow(place, *found[row]) for place, row in enumerate(order.tolist())]


def vectors(rows: Sequence[StreamRow]) -> Vector:
    """What the embedder without a model makes of them."""
    return HashingEmbedder().embed([row.query for row in rows])
