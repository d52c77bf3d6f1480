"""Logged decisions, decided anew under a draft by the very code that decides. Knows no SQL and no estimator.

Who could be asked then is known from the logged ranking; a model that the policy of then never ranked is new, and
whoever it did rank elsewhere but not here was filtered then and stays out. Endpoints of a model count as one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.dispatch.eligible import eligible
from gateway.dispatch.health import Health
from gateway.ledger.export import asked_text
from gateway.lifecycle.policy_store import ActivePolicy
from gateway.providers.base import Target
from policies.catalogue import Modality
from policies.schema import Policy
from routers.choose import choose
from routers.decision import FEATURES_VERSION, Candidate, Decision, Features, Forecast, Query
from routers.inputs import FACTS, Inputs, facts_of
from routers.learned import LearnedRouter, forecasts_of
from routers.training.stems import number_of

Doubles = npt.NDArray[np.float64]
PINNED: Final = "pinned"
SINGLE: Final = "single"
# Propensities are logged with six decimals, for each of a ranking's endpoints.
_ROUNDING: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Case:
    """One logged request that is decided anew.

    `logged` and `drafted` are each model's chance to be asked first, then and under the draft; `asked` who was;
    `score` 0..1 what was said of the answer, `cost_usd` what it cost. `told` has the draft's own forecasts of
    (quality, cost in USD), of models that it could ask.
    """

    id: str
    category: str
    new_category: str
    asked: str
    logged: Mapping[str, float]
    drafted: Mapping[str, float]
    score: float | None
    cost_usd: float | None
    told: Mapping[str, tuple[float, float]]
    group: int
    without_text: bool


@dataclass(slots=True)
class Replayed:
    """All cases with their embeddings [N, D] as float16 (zeros where none was kept), and who was left out and why."""

    cases: list[Case] = field(default_factory=list)
    embeddings: list[bytes] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    rows: int = 0

    def leave_out(self, reason: str) -> None:
        """Count one more."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def contexts(self) -> npt.NDArray[np.float32]:
        """[N, D] for a reward model."""
        size = max(map(len, self.embeddings), default=2)
        rows = [one if len(one) == size else bytes(size) for one in self.embeddings]
        return np.frombuffer(b"".join(rows), dtype=np.float16).reshape(len(rows), -1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row read, before it is decided."""

    row: Any
    query: Query
    pool: tuple[Candidate, ...]
    logged: Mapping[str, float]
    without_text: bool


class Replay:
    """Decides rows under one policy."""

    def __init__(self, active: ActivePolicy, health: Health) -> None:
        self._active = active
        self._health = health
        self._targets = _one_each(active.targets)
        self._reads_words = any(_words(active.policy))
        self._ranked: dict[str, set[str]] = {}
        self._rng = random.Random(0)  # what is drawn does not matter: every candidate's propensity is told
        self._embedder = active.router.artifact.embedder if isinstance(active.router, LearnedRouter) else ""

    def pool_of(self, features: Features) -> list[Candidate]:
        """Who could be asked, one endpoint of each model."""
        return eligible(features, self._targets, self._active.policy, self._health).candidates

    def take(self, rows: Sequence[Any], into: Replayed) -> None:
        """Decide a page of rows, which is taken to show whom each policy of then could rank at all."""
        for row in rows:
            known = self._ranked.setdefault(row.policy_sha256 or "", set())
            known.update(one["model"] for one in row.decision or ())
        groups: dict[tuple[str, ...], list[_Draft]] = {}
        for row in rows:
            into.rows += 1
            reason = _unfit(row)
            draft = None if reason else self._draft(row)
            if draft is None or not draft.pool:
                into.leave_out(reason or self._nobody(draft))
                continue
            groups.setdefault(tuple(one.endpoint.id for one in draft.pool), []).append(draft)
        for drafts in groups.values():
            for draft, told in zip(drafts, self._forecasts(drafts), strict=True):
                into.cases.append(self._decided(draft, told))
                into.embeddings.append(draft.row.embedding or b"")

    def _nobody(self, draft: _Draft | None) -> str:
        if draft is None:
            return "its router needs the embedding, and none of its embedder was kept"
        return "the draft allows none of the models that could answer"

    def _draft(self, row: Any) -> _Draft | None:
        features, text = _features(row.features), asked_text(row.prompt)
        vector = _vector(row)
        learned = isinstance(self._active.router, LearnedRouter)
        if (
            learned
            and self._active.router.needs_embedding
            and (vector is None or (self._embedder and row.embedder != self._embedder))
        ):
            return None
        query = Query(text, features, row.category or "general", vector, facts=_facts(row.features, text, features))
        named = self._active.categoriser.by_predicate(query) or self._active.categoriser.by_example(vector)
        query = replace(query, category=named)
        logged: dict[str, float] = {}
        for one in row.decision:
            logged[one["model"]] = logged.get(one["model"], 0.0) + float(one["propensity"])
        then = self._ranked.get(row.policy_sha256 or "", set())
        found = self.pool_of(features)
        pool = tuple(one for one in found if one.card.id in logged or one.card.id not in then)
        return _Draft(row, query, pool, logged, self._reads_words and not text)

    def _forecasts(self, drafts: Sequence[_Draft]) -> Sequence[Sequence[Forecast]]:
        """Of one pool; a router that predicts whole tables is asked once."""
        router, pool = self._active.router, drafts[0].pool
        if not isinstance(router, LearnedRouter):
            return [router.forecast(one.query, pool) for one in drafts]
        told = router.predict(_inputs(drafts, router.artifact.dimensions), [one.card for one in pool])
        names = ("quality", "low", "high", "tokens", "tokens_high", "latency_ms", "trust")
        rows = (
            replace(told, **{name: getattr(told, name)[row : row + 1] for name in names}) for row in range(len(drafts))
        )
        return [forecasts_of(one.query, pool, row) for one, row in zip(drafts, rows, strict=True)]

    def _decided(self, draft: _Draft, told: Sequence[Forecast]) -> Case:
        active, row = self._active, draft.row
        plan = active.plan is None or active.plan.of(draft.query.category).strategy is None
        decision = choose(
            active.policy, active.router.kind, draft.query, draft.pool, told, "", self._rng, explores=plan
        )
        return Case(
            id=row.id,
            category=row.category or "",
            new_category=draft.query.category,
            asked=row.decision[0]["model"],
            logged=draft.logged,
            drafted={one.candidate.card.id: one.propensity for one in decision.ranking},
            score=row.score,
            cost_usd=None if row.cost_nanousd is None else row.cost_nanousd / 1e9,
            told=_told(decision),
            group=number_of(row.embedding or row.id.encode()),
            without_text=draft.without_text,
        )


def _told(decision: Decision) -> dict[str, tuple[float, float]]:
    return {one.candidate.card.id: (one.forecast.quality, one.cost_nanousd / 1e9) for one in decision.ranking}


def _one_each(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The first endpoint of each model: prices are the model's own."""
    return tuple({target.card.id: target for target in reversed(targets)}.values())[::-1]


def _words(policy: Policy) -> list[bool]:
    """Whether anything depends on the words of a prompt, which the ledger need not have."""
    rules = [*(one.when for one in policy.category), *(one.when for one in policy.router.rule)]
    return [one.contains is not None for one in rules if one is not None]


def _unfit(row: Any) -> str:
    """Why a request says nothing of decisions; "" where it does."""
    if str(row.cache_status).startswith("hit"):
        return "answered from the cache"
    if not row.decision:
        return "never came to a decision"
    if row.router_kind == PINNED:
        return "named its model itself"
    if row.strategy not in (None, SINGLE):
        return "a strategy made several calls"
    if row.status != 200:
        return "failed"
    if row.model != row.decision[0]["model"] or not row.propensity:
        return "another model stood in for the one that was drawn"
    total = sum(float(one.get("propensity", math.nan)) for one in row.decision)
    if not abs(total - 1.0) <= _ROUNDING * len(row.decision) + 1e-9:
        return "logged without whole propensities"
    return ""


def _features(known: Mapping[str, Any] | None) -> Features:
    given = known or {}
    return Features(
        tokens=int(given.get("tokens") or 0),
        chars=int(given.get("chars") or 4 * int(given.get("tokens") or 0)),
        turns=int(given.get("turns") or 1),
        language=str(given.get("language") or "en"),
        code=bool(given.get("code")),
        tools=bool(given.get("tools")),
        modalities=frozenset(Modality(one) for one in given.get("modalities") or ("text",)),
        max_output_tokens=given.get("max_output_tokens"),
    )


def _facts(known: Mapping[str, Any] | None, text: str, features: Features) -> Sequence[float]:
    given = known or {}
    facts = given.get("facts") or ()
    if len(facts) == len(FACTS) and given.get("features_version") == FEATURES_VERSION:
        return tuple(map(float, facts))
    return facts_of(text, features.tokens, features.code, features.tools)


def _vector(row: Any) -> npt.NDArray[np.float32] | None:
    return None if not row.embedding else np.frombuffer(row.embedding, dtype=np.float16).astype(np.float32)


def _inputs(drafts: Sequence[_Draft], dimensions: int) -> Inputs:
    rows = [one.query.embedding for one in drafts]
    blank = np.zeros(dimensions, dtype=np.float32)
    vectors = [blank if one is None or len(one) != dimensions else one for one in rows]
    return Inputs(
        np.stack(vectors),
        np.array([one.query.features.tokens for one in drafts], dtype=np.float32),
        np.array([one.query.facts for one in drafts], dtype=np.float32),
    )
