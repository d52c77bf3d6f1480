"""One request from admission to settlement: what becomes one ledger row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Child:
    """One call of a request that a strategy made several of; its cost is a part of the request's own.

    `role` is what the strategy made it for; `began_ms` is since the request's admission, `latency_ms` the call's own
    time; `signals` plain JSON values, never a text. `chosen`: the client got this call's answer.
    """

    parent_id: str
    seq: int
    role: str
    model: str | None = None
    endpoint: str | None = None
    provider: str | None = None
    status: int = 0
    error_code: str | None = None
    finish_reason: str | None = None
    chosen: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_estimated: bool = False
    cost_nanousd: int | None = None
    reserved_nanousd: int | None = None
    began_ms: float | None = None
    latency_ms: float | None = None
    signals: dict[str, Any] | None = None


@dataclass(slots=True)
class Record:
    """Filled along the line, put into the ledger once, at the end; field names are the column names.

    `trial_*` are of a canary or shadow trial: which, whose arm, which unit (a hash), its chance of the canary arm.

    `children` alone is no column: they are rows of a table of their own. Usage and cost include theirs.

    Times: `at` is Unix seconds, `*_ms` are milliseconds since admission (None where that stage did not run).
    `decision` is the ranking as plain JSON values; `embedding` float16 bytes; prompts only where the policy says so.
    """

    id: str
    at: float
    route: str
    key_id: str | None = None
    team_id: str | None = None
    organisation_id: str | None = None
    end_user: str | None = None
    tags: list[str] | None = None
    session: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    policy: str | None = None
    policy_sha256: str | None = None
    category: str | None = None
    model_requested: str | None = None
    model: str | None = None
    endpoint: str | None = None
    provider: str | None = None
    router_kind: str | None = None
    strategy: str | None = None
    reason: str | None = None
    propensity: float | None = None
    decision: list[dict[str, Any]] | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    features: dict[str, Any] | None = None
    embedding: bytes | None = None
    embedder: str | None = None
    stream: bool = False
    status: int = 0
    error_code: str | None = None
    finish_reason: str | None = None
    cache_status: str = "off"
    cache_id: str | None = None
    cache_score: float | None = None
    saved_nanousd: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    images: int | None = None
    usage_estimated: bool = False
    cost_nanousd: int | None = None
    reserved_nanousd: int | None = None
    price_since: str | None = None
    budget_exhausted: bool = False
    embed_ms: float | None = None
    route_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None
    prompt: str | None = None
    answer: str | None = None
    trial_id: str | None = None
    trial_arm: str | None = None
    trial_unit: str | None = None
    trial_share: float | None = None
    children: list[Child] | None = None


@dataclass(slots=True)
class ShadowDecision:
    """What a draft on shadow trial would have decided for a request; `fault` where it would have decided nothing."""

    request_id: str
    trial_id: str
    at: float
    model: str | None = None
    propensity: float | None = None
    quality: float | None = None
    cost_nanousd: int | None = None
    agrees: bool = False
    fault: str | None = None
    control_model: str | None = None
    control_quality: float | None = None
    control_cost_nanousd: int | None = None


Entry = Record | ShadowDecision
