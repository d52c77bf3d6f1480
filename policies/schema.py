"""The one schema of a policy: what an admin may write in a policy file.

Pure data with validation; choosing is `routers.choose`'s business, matching of predicates `routers.features`'.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.catalogue import Modality

SCHEMA_VERSION = 1

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Objective(_Table):
    """Weights of the trade-off: quality (0..1) gained, cost and latency given up.

    `cost_scale_usd` and `latency_scale_ms` are the amounts that count as one whole unit of loss.
    """

    quality: Weight = 1.0
    cost: Weight = 0.0
    latency: Weight = 0.0
    cost_scale_usd: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    latency_scale_ms: float = Field(default=5000.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.quality + self.cost + self.latency == 0:
            raise ValueError("at least one of quality, cost and latency must be above 0")
        return self


class Predicate(_Table):
    """A condition on a query; every field that is set must hold."""

    category: tuple[Name, ...] | None = None
    language: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] | None = None
    contains: tuple[str, ...] | None = Field(default=None, description="any of these words or phrases")
    min_tokens: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)
    min_turns: int | None = Field(default=None, ge=1)
    code: bool | None = None
    tools: bool | None = None
    modality: tuple[Modality, ...] | None = None


class Rule(_Table):
    """One `[[router.rule]]`: for queries that match, these models are the right ones."""

    name: Name
    when: Predicate = Predicate()
    prefer: tuple[str, ...] = Field(min_length=1, description="model ids or patterns, such as 'gpt-*'")


class RouterSpec(_Table):
    """Which router forecasts, and what it needs."""

    kind: Name = "rules"
    artifact: str | None = None
    model: str | None = Field(default=None, description="the model of kind 'fixed'")
    rule: tuple[Rule, ...] = ()


class CacheMode(StrEnum):
    """How repeats of a category may be answered."""

    OFF = "off"
    EXACT = "exact"
    SEMANTIC = "semantic"


class CacheRule(_Table):
    """Cache policy of one category."""

    mode: CacheMode = CacheMode.OFF
    ttl_s: int = Field(default=3600, gt=0)
    max_false_hit_share: Share = 0.02


class CategoryRule(_Table):
    """One `[[category]]`: the first whose predicate holds, or whose examples are near enough, names the query.

    `examples` are compared by embedding cosine; without examples no embedding is computed for this category.
    """

    name: Name
    when: Predicate | None = None
    examples: tuple[str, ...] = ()
    min_similarity: float = Field(default=0.45, ge=0, le=1, allow_inf_nan=False)
    cache: CacheRule = CacheRule()

    @model_validator(mode="after")
    def _has_a_test(self) -> Self:
        if self.when is None and not self.examples:
            raise ValueError("a category needs 'when' or 'examples'")
        return self


class Budget(_Table):
    """What a single call may cost at most (a candidate whose upper forecast is above is not eligible).

    `when_store_is_away` says what hard budgets of keys, teams and so on do while their counters can't be reached:
    "closed" refuses the calls that they bound, "open" lets them pass and counts them later.
    """

    max_cost_usd_per_request: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    when_store_is_away: Literal["closed", "open"] = "closed"


class Fallback(_Table):
    """What happens when the chosen endpoint fails before its first byte.

    `max_attempts` bounds the endpoints that are asked, `retries` how often one of them is asked again after a fault
    that may pass, `deadline_s` all of that together. With `hedge_after_ms` another endpoint of the same model is asked
    too when the first stays silent for so long (or for longer than it does in 19 of 20 calls), and the first to speak
    wins: it costs calls, so it is off unless set.
    """

    enabled: bool = True
    max_attempts: int = Field(default=3, ge=1, le=20)
    models: tuple[str, ...] = Field(default=(), description="tried right after the chosen one, in this order")
    retries: int = Field(default=1, ge=0, le=5)
    deadline_s: float = Field(default=120.0, gt=0, le=3600, allow_inf_nan=False)
    hedge_after_ms: int | None = Field(default=None, ge=1, le=600_000)


class Logging(_Table):
    """What the ledger keeps beside numbers."""

    prompts: bool = False
    embeddings: bool = True


class Policy(_Table):
    """A whole policy file."""

    schema_version: int = Field(alias="schema", ge=1)
    name: Name
    description: str = ""
    models: tuple[str, ...] = ("*",)
    objective: Objective = Objective()
    router: RouterSpec = RouterSpec()
    category: tuple[CategoryRule, ...] = ()
    default_category: Name = "general"
    cache: CacheRule = CacheRule()
    budget: Budget = Budget()
    fallback: Fallback = Fallback()
    exploration: Share = 0.0
    log: Logging = Logging()

    def allows(self, model_id: str) -> bool:
        """Whether this policy may use a model."""
        return any(fnmatchcase(model_id, pattern) for pattern in self.models)

    @property
    def needs_embedding(self) -> bool:
        """Whether categorising a query needs its embedding."""
        return any(rule.examples for rule in self.category)

    def sha256(self) -> str:
        """Content hash (hex), independent of the order of keys and of formatting in the file."""
        return self._sha256

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy hashes itself anew."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("_sha256", None)
        return copied

    @cached_property
    def _sha256(self) -> str:
        body = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
