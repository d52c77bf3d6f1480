"""Which category a query belongs to: predicates first, then nearness to a category's example prompts.

A category selects policy only (routing rules, cache rules); it never decides who may see what.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import numpy.typing as npt

from policies.schema import CategoryRule, Policy
from routers.decision import Embedding, Query
from routers.features import matches

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Awaitable[Vectors]]


class Categoriser:
    """The categories of one policy. Until `prepare` has embedded the examples, only predicates are used."""

    def __init__(self, policy: Policy) -> None:
        self._default = policy.default_category
        self._by_predicate = [rule for rule in policy.category if rule.when is not None]
        self._by_example = [rule for rule in policy.category if rule.examples]
        self._vectors: Vectors | None = None
        self._owner = np.repeat(
            np.arange(len(self._by_example)), [len(rule.examples) for rule in self._by_example] or [0]
        )

    @property
    def needs_embedding(self) -> bool:
        """Whether a query that no predicate names is compared with examples."""
        return bool(self._by_example)

    @property
    def ready(self) -> bool:
        """Whether the examples are embedded (true where there are none)."""
        return self._vectors is not None or not self._by_example

    async def prepare(self, embed: Embed) -> None:
        """Embed all examples once; raises what `embed` raises."""
        if not self.ready:
            self._vectors = await embed([text for rule in self._by_example for text in rule.examples])

    def by_predicate(self, query: Query) -> str | None:
        """The first category whose predicate holds, or None."""
        return next((rule.name for rule in self._by_predicate if rule.when and matches(rule.when, query)), None)

    def by_example(self, embedding: Embedding | None) -> str:
        """The category with the nearest example above its own threshold; the default category otherwise."""
        if embedding is None or self._vectors is None:
            return self._default
        cosines = self._vectors @ embedding
        for index in np.argsort(-cosines):
            rule: CategoryRule = self._by_example[self._owner[index]]
            if cosines[index] >= rule.min_similarity:
                return rule.name
        return self._default
