"""What a learned router sees of queries: embeddings, prompt tokens and cheap facts; never the name of a task."""

from __future__ import annotations

import math
import re
import string
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
_MATHEMATICS = b"+-*/=^<>\\$%"
_DIGITS = string.digits.encode()
# Other scripts' characters count by the first byte of their UTF-8, without Latin signs, punctuation and emoji.
_LETTERS = string.ascii_letters.encode() + bytes(first for first in range(0xC3, 0xEF) if first != 0xE2)


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
    facts = query.facts or facts_of(query.text, features.tokens, features.code, features.tools)
    return Inputs(
        np.asarray(vector, dtype=np.float32)[None],
        np.array([features.tokens], dtype=np.float32),
        np.array([facts], dtype=np.float32),
    )


def facts_of(text: str, tokens: int, code: bool, tools: bool) -> Sequence[float]:
    """Facts of one prompt, each about 0..1 or a logarithm, from its beginning."""
    start = text[:FACTS_WINDOW]
    size = max(len(start), 1)
    read = start.encode("utf-8", "replace")
    return (
        math.log1p(tokens) / 10,
        math.log1p(len(text)) / 10,
        _count(read, _DIGITS) / size,
        _count(read, _LETTERS) / size,
        math.log1p(start.count("\n")) / 5,
        min(len(_OPTION.findall(start)), 10) / 10,
        min(start.count("?"), 5) / 5,
        _count(read, _MATHEMATICS) / size,
        float(code),
        float(tools),
    )


def _count(read: bytes, signs: bytes) -> int:
    """How many of the bytes are among some signs; ten times faster than to look at one after the other."""
    return len(read) - len(read.translate(None, signs))
