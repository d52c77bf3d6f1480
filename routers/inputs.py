"""What a learned router sees of queries: embeddings, prompt tokens and cheap facts; never the name of a task."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from routers.decision import Query

Floats = npt.NDArray[np.float32]

# Order of the columns of `Inputs.facts`; a change needs another FEATURES_VERSION in `routers.decision`.
FACTS = (
    "log_tokens",
    "log_chars",
    "digits",
    "letters",
    "lines",
    "options",
    "questions",
    "mathematics",
    "code",
    "tools",
)
FACTS_WINDOW = 8_000
_OPTION = re.compile(r"^\s{0,3}\(?[A-J][.):]", re.MULTILINE)
_MATHEMATICS = frozenset("+-*/=^<>\\$%")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Queries in rows: unit embeddings [Q, D], estimated prompt tokens [Q], facts [Q, len(FACTS)], all float32."""

    embeddings: Floats
    tokens: Floats
    facts: Floats

    def __len__(self) -> int:
        return len(self.embeddings)

    def rows(self, chosen: npt.NDArray[np.intp] | slice) -> Inputs:
        """The same of some queries."""
        return Inputs(self.embeddings[chosen], self.tokens[chosen], self.facts[chosen])


def inputs_of(query: Query, dimensions: int) -> Inputs:
    """One query as one row; zeros where it has no embedding."""
    vector = query.embedding
    if vector is None or len(vector) != dimensions:
        vector = np.zeros(dimensions, dtype=np.float32)
    features = query.features
    facts = facts_of(query.text, features.tokens, features.code, features.tools)
    return Inputs(
        np.asarray(vector, dtype=np.float32)[None],
        np.array([features.tokens], dtype=np.float32),
        np.array([facts], dtype=np.float32),
    )


def facts_of(text: str, tokens: int, code: bool, tools: bool) -> Sequence[float]:
    """Facts of one prompt, each about 0..1 or a logarithm, from its beginning."""
    start = text[:FACTS_WINDOW]
    size = max(len(start), 1)
    return (
        math.log1p(tokens) / 10,
        math.log1p(len(text)) / 10,
        sum(map(str.isdigit, start)) / size,
        sum(map(str.isalpha, start)) / size,
        math.log1p(start.count("\n")) / 5,
        min(len(_OPTION.findall(start)), 10) / 10,
        min(start.count("?"), 5) / 5,
        sum(letter in _MATHEMATICS for letter in start) / size,
        float(code),
        float(tools),
    )
