"""The one schema of a policy: what an admin may write in a policy file.

Pure data with validation; choosing is `routers.choose`'s business, matching of predicates `routers.features`'.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.catalogue import Modality

SCHEMA_VERSION = 1

NAME_PATTERN = re.compile(r"^[a-z][a-z0-9_-]{0,63}$")
Name = Annotated[str, Field(pattern=NAME_PATTERN.pattern)]
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Objective(_Table):
    """Weights of the trade-off: quality (0..1) gained, cost and latency given up.

    `cost_scale_usd` and `latency_scale_ms` are the amounts that count as one whole unit of loss.

    `min_quality` is the least forecast quality, `max_cost_usd` the most that a call may be forecast to cost (at the
    90th percentile of its output), `max_latency_ms` the longest forecast latency. Who keeps to them goes before all
    others; where nobody does, who breaks them least is called.
    """

    quality: Weight = 1.0
    cost: Weight = 0.0
    latency: Weight = 0.0
    cost_scale_usd: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    latency_scale_ms: float = Field(default=5000.0, gt=0, allow_inf_nan=False)
    min_quality: Share = 0.0
    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_latency_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.quality + self.cost + self.latency == 0:
            raise ValueError("at least one of quality, cost and latency must be above 0")
        return self


class ObjectiveChange(_Table):
    """What a category weighs differently: the keys that it names take the place of the policy's own."""

    quality: Weight | None = None
    cost: Weight | None = None
    latency: Weight | None = None
    cost_scale_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    latency_scale_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    min_quality: Share | None = None
    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_latency_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)


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
    """Which router forecasts, what it needs, and how sure it must be.

    `model` is the default one (the only one of kind 'fixed'): it answers where the best by forecast is ahead of it
    with less than the probability `confidence`, or where the query is so unlike what was learned from that trust is
    under `min_trust`. Without `model` the best by usual quality is the default. 0.5 and 0 switch that off.
    """

    kind: Name = "rules"
    artifact: str | None = None
    model: str | None = Field(default=None, description="the default model; the only one of kind 'fixed'")
    confidence: float = Field(default=0.5, ge=0.5, lt=1, allow_inf_nan=False)
    min_trust: Share = 0.0
    rule: tuple[Rule, ...] = ()


class CacheMode(StrEnum):
    """How repeats of a category may be answered."""

    OFF = "off"
    EXACT = "exact"
    SEMANTIC = "semantic"


class CacheRule(_Table):
    """How answers are given again: `[cache]` for all queries, `cache = { ... }` of a category in its place.

    `mode` "exact" answers exact repeats, "semantic" also what certainly asks the same: only with settings that are
    certified to serve a wrong answer in at most `max_false_hit_share` of such hits. `reserve` is the share of a
    tenant's room that a category is sure of.

    Where the models are overloaded the share of wrong answers may rise to `max_false_hit_share_under_load` (None: it
    may not), as far as settings are certified for that, and answers are given for up to `stale_s` seconds after their
    `ttl_s`; never to what asks for something personal or for what changes with time.

    `checked` is the share of "semantic" hits that are also really asked for, at the caller's cost, once they are
    answered: where too many come out otherwise, stricter settings are used. `judge` is the model of the policy that is
    asked where two answers can't be compared by themselves.
    """

    mode: CacheMode = CacheMode.OFF
    ttl_s: int = Field(default=3600, gt=0, le=30 * 86_400)
    max_false_hit_share: Share = 0.05
    max_false_hit_share_under_load: Share | None = None
    stale_s: int = Field(default=0, ge=0, le=30 * 86_400)
    reserve: Share = 0.0
    checked: Share = 0.0
    judge: str | None = None

    @property
    def adapts(self) -> bool:
        """Whether load makes a difference."""
        return self.stale_s > 0 or self.share_at(1.0) > self.max_false_hit_share

    def share_at(self, level: float) -> float:
        """The share of wrong answers that may be served under so much load: 0 is normal, 1 as much as can be."""
        most = self.max_false_hit_share_under_load
        if most is None:
            return self.max_false_hit_share
        if level >= 1:
            return most
        return self.max_false_hit_share + level * (most - self.max_false_hit_share)

    @model_validator(mode="after")
    def _load_only_loosens(self) -> Self:
        most = self.max_false_hit_share_under_load
        if most is not None and most < self.max_false_hit_share:
            raise ValueError(
                f"max_false_hit_share_under_load must be at least max_false_hit_share ({self.max_false_hit_share:g}):"
                " under load more may be answered from the cache, not less"
            )
        if most is not None and self.mode is not CacheMode.SEMANTIC:
            raise ValueError("max_false_hit_share_under_load has a meaning only where mode is 'semantic'")
        return self


class StrategySpec(_Table):
    """How calls make an answer: `[strategy]`, or `strategy = { ... }` of a category, which then stands for all of it.

    `n` models or samples are asked; `max_calls` bounds all calls of a request, a judge's or an aggregator's among
    them. `models` says who is asked (empty: whom the router ranks first); `temperature` is that of samples, where the
    request names none. A vote ends once its lead is certain, or `confidence` that it is the majority's is reached.
    """

    kind: Name = "single"
    n: int = Field(default=3, ge=2, le=16)
    max_calls: int = Field(default=4, ge=1, le=16)
    models: tuple[str, ...] = Field(default=(), description="model ids or patterns, such as 'gpt-*'")
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    confidence: float = Field(default=0.95, ge=0.5, le=1, allow_inf_nan=False)
    threshold: Share = Field(default=0.7, description="a cascade without artifact stops at answers that look so sure")
    artifact: str | None = Field(default=None, description="a cascade's, from `fingerpost train --kind cascade`")
    scorer: Literal["consensus", "judge", "logprob"] = "consensus"
    judge: str | None = Field(default=None, description="the model that picks for kind 'best_of_n'")
    aggregator: str | None = Field(default=None, description="the model that writes the answer of kind 'fuse'")
    answer_tokens: int = Field(default=1000, ge=50, le=100_000, description="what a judge or aggregator sees of each")

    @model_validator(mode="after")
    def _someone_judges(self) -> Self:
        if self.scorer == "judge" and self.judge is None:
            raise ValueError("a judge is needed where scorer is 'judge'")
        return self


EffortLevel = Literal["low", "medium", "high", "auto"]


class Effort(_Table):
    """How hard models that reason shall think, where a request does not say; None leaves it to their vendors.

    "auto" goes by the forecast quality of the model that is called: low at `low_above` or more, high under
    `high_below`, medium between them.
    """

    reasoning_effort: EffortLevel | None = None
    low_above: Share = 0.85
    high_below: Share = 0.6


class CategoryRule(_Table):
    """One `[[category]]`: the first whose predicate holds, or whose examples are near enough, names the query.

    `examples` are compared by embedding cosine; without examples no embedding is computed for this category.
    """

    name: Name
    when: Predicate | None = None
    examples: tuple[str, ...] = ()
    min_similarity: float = Field(default=0.45, ge=0, le=1, allow_inf_nan=False)
    cache: CacheRule | None = None
    objective: ObjectiveChange | None = None
    strategy: StrategySpec | None = None
    reasoning_effort: EffortLevel | None = None

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


class Pacing(_Table):
    """Money for a period that this policy's calls share, spent evenly: the weight of cost rises with what is spent.

    `budget_usd` is a hard budget in itself: calls that it does not cover are refused until the next period (UTC). The
    multiplier of the objective's cost weight stays between `min_multiplier` and `max_multiplier`: 1 at the least,
    unless money that would be left over may buy more quality than the objective asks for.
    """

    budget_usd: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    period: Literal["hour", "day", "week", "month"] = "day"
    min_multiplier: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    max_multiplier: float = Field(default=100.0, ge=1, le=1e6, allow_inf_nan=False)


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


class Learning(_Table):
    """What a router that goes on learning (kind 'bandit') may try, for at most `exploration` of the requests.

    Only models that could still come within `within` of the best score, and whose quality keeps the objective's
    `min_quality` at its lower bound; and for at most `max_extra_usd_per_day` (UTC) beyond what the best would cost.
    """

    within: float = Field(default=0.05, ge=0, le=1000, allow_inf_nan=False)
    max_extra_usd_per_day: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)


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
    pacing: Pacing | None = None
    fallback: Fallback = Fallback()
    strategy: StrategySpec = StrategySpec()
    effort: Effort = Effort()
    exploration: Share = 0.0
    learning: Learning = Learning()
    log: Logging = Logging()

    @model_validator(mode="after")
    def _objectives_hold(self) -> Self:
        for rule in self.category:
            merged = self.objective_of(rule.name)
            if merged.quality + merged.cost + merged.latency == 0:
                raise ValueError(f"at least one of quality, cost and latency must be above 0 in category '{rule.name}'")
        if self.pacing is not None and not self.objective.cost:
            raise ValueError("pacing needs a cost weight: it multiplies objective.cost, which is 0")
        if sum(rule.reserve for rule in self.cache_rules.values()) > 1:
            raise ValueError("the shares in 'cache.reserve' of all categories must sum to 1 at most")
        return self

    def objective_of(self, category: str) -> Objective:
        """What counts for queries of a category: the policy's objective with what the category changes in it."""
        return self._objectives.get(category, self.objective)

    def cache_rule(self, category: str) -> tuple[CacheRule, bool]:
        """How a category's answers are cached, and whether the policy says so of this very category."""
        own = self.cache_rules.get(category)
        return (self.cache, False) if own is None else (own, True)

    @cached_property
    def cache_rules(self) -> dict[str, CacheRule]:
        """Of the categories that have a rule of their own."""
        return {rule.name: rule.cache for rule in self.category if rule.cache is not None}

    @cached_property
    def most_cached(self) -> CacheMode:
        """The most that any query of this policy may get from the cache."""
        modes = {self.cache.mode, *(rule.mode for rule in self.cache_rules.values())}
        return next((mode for mode in (CacheMode.SEMANTIC, CacheMode.EXACT) if mode in modes), CacheMode.OFF)

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
        for derived in ("_objectives", "cache_rules", "most_cached"):
            copied.__dict__.pop(derived, None)
        return copied

    @cached_property
    def _objectives(self) -> dict[str, Objective]:
        changes = {rule.name: rule.objective for rule in self.category if rule.objective is not None}
        return {
            name: self.objective.model_copy(update=change.model_dump(exclude_none=True))
            for name, change in changes.items()
        }

    @cached_property
    def _sha256(self) -> str:
        body = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
