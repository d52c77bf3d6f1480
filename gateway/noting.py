"""What the ledger's record keeps of a decision, an answer and its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.admission.gauges import Expired
from gateway.cache.asked import Hit
from gateway.dispatch.dispatch import PINNED, Opened
from gateway.ledger.record import Record
from policies.schema import CacheMode
from routers.decision import Decision, Forecast, Query, Ranked


def note_decision(record: Record, query: Query, decision: Decision) -> None:
    """Why it was decided so."""
    record.category = query.category
    record.features = _features(query)
    if record.embedding is not None:
        record.features |= _facts(query)
    record.router_kind, record.reason = decision.router_kind, decision.reason
    record.decision = _ranking(decision)


def note_target(record: Record, opened: Opened) -> None:
    """Who answers; with the chance that its model was drawn, unless it was named, or stands in for the one that was."""
    target = opened.target
    record.model, record.endpoint, record.provider = target.card.id, target.endpoint.id, target.endpoint.provider
    drawn = record.decision[0]["model"] if record.decision and record.router_kind != PINNED else None
    record.propensity = opened.ranked.propensity if target.card.id == drawn else None
    if len(record.attempts) > 1:
        failed = dict.fromkeys(one["endpoint"] for one in record.attempts if one["outcome"] != "ok")
        record.reason = f"{record.reason} But {', '.join(failed)} did not answer, so '{record.endpoint}' did."


def note_usage(record: Record, opened: Opened) -> None:
    """What the answer took; final once the meter is settled."""
    usage = opened.meter.settle()
    if opened.meter.done:
        record.status, record.error_code = 200, None
    record.input_tokens, record.output_tokens = usage.input_tokens, usage.output_tokens
    record.cached_tokens, record.cache_write_tokens = usage.cached_tokens, usage.cache_write_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    record.audio_tokens = usage.audio_input_tokens + usage.audio_output_tokens
    record.images = usage.images
    record.usage_estimated = usage.estimated
    record.cost_nanousd = usage.cost_nanousd if opened.target.card.priced else None
    record.price_since = opened.target.card.price_since(record.at)
    record.finish_reason = opened.meter.finish_reason


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What a call without an answer is taken to have cost."""

    cost_nanousd: int = 0
    tokens: int = 0


def note_unanswered(record: Record, order: Sequence[Ranked], query: Query, reserved_nanousd: int) -> Unanswered:
    """A call that was given up while an endpoint worked on it: what that may have taken until then, as an estimate.

    Never more than was set aside for it, where anything was. Nothing where no endpoint can have begun.
    """
    waited_ms: dict[str, float] = {}
    for attempt in record.attempts:
        if attempt.get("may_cost"):
            waited_ms[attempt["endpoint"]] = waited_ms.get(attempt["endpoint"], 0.0) + attempt["ms"]
    if not waited_ms:
        return Unanswered()
    worked = [one for one in order if one.candidate.endpoint.id in waited_ms]
    written = [_written(one, waited_ms[one.candidate.endpoint.id], record.stream) for one in worked]
    read, cards = query.features.tokens, [one.candidate.card for one in worked]
    cost = sum(card.cost_nanousd(read, output, at=record.at) for card, output in zip(cards, written, strict=True))
    charge = min(cost, reserved_nanousd) if reserved_nanousd else cost
    record.cost_nanousd = charge if all(card.priced for card in cards) else None
    record.input_tokens, record.output_tokens = read * len(worked), sum(written)
    record.usage_estimated = True
    return Unanswered(charge, record.input_tokens + record.output_tokens)


def _written(one: Ranked, waited_ms: float, stream: bool) -> int:
    """Output tokens of an answer that never came, by now: none of a stream, which shows what it writes, unless the
    model thinks first; else its part of what was expected, as far as the time goes in which all of it was."""
    told = one.forecast
    if stream and not one.candidate.card.reasoning:
        return 0
    share = min(waited_ms / told.latency_ms, 1.0) if told.latency_ms > 0 else 1.0
    return math.ceil(told.expected_output_tokens * share)


def charged(expired: Expired, at: float) -> Record:
    """A call whose process died has no record of its own; what it was charged stands in the ledger all the same."""
    return Record(
        id=f"lease_{expired.lease_id}",
        at=at,
        route="expired",
        error_code="lease_expired",
        cost_nanousd=expired.cost_nanousd,
        usage_estimated=True,
    )


def note_hit(record: Record, hit: Hit) -> None:
    """A cached answer: no model was called, so that no tokens and no cost are this request's."""
    record.status, record.error_code = 200, None
    record.model = hit.stored.model
    record.cache_status, record.cache_id = "hit-stale" if hit.stale_s else f"hit-{hit.kind}", hit.stored.id
    record.cache_score = round(hit.probability, 4)
    record.category = hit.stored.category
    # Calls that failed before may have cost something all the same.
    record.cost_nanousd, record.saved_nanousd = record.cost_nanousd or 0, hit.stored.cost_nanousd
    alike = "" if hit.kind is CacheMode.EXACT else f", with probability {hit.probability:.3f}"
    because = f" It is given again since {hit.note}." if hit.note else ""
    record.reason = f"The same was asked {hit.age_s:.0f} s ago{alike}.{because}"


def hit_headers(record: Record, hit: Hit) -> list[tuple[bytes, bytes]]:
    """What a client is told beside a cached answer."""
    pairs = [
        ("x-fingerpost-model", hit.stored.model),
        ("x-fingerpost-policy", record.policy or ""),
        ("x-fingerpost-cache", record.cache_status),
        ("x-fingerpost-cache-id", hit.stored.id),
        ("x-fingerpost-cache-score", f"{hit.probability:.4f}"),
        ("x-fingerpost-cost", f"{(record.cost_nanousd or 0) / 1e9:.9f}"),
        ("age", f"{hit.age_s:.0f}"),
    ]
    if hit.note:
        pairs.append(("x-fingerpost-cache-reason", hit.note))
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in pairs]


def answer_headers(record: Record, opened: Opened) -> list[tuple[bytes, bytes]]:
    """What a client is told beside the answer."""
    pairs = [
        ("x-fingerpost-model", opened.target.card.id),
        ("x-fingerpost-endpoint", opened.target.endpoint.id),
        ("x-fingerpost-policy", record.policy or ""),
        ("x-fingerpost-cache", record.cache_status),
    ]
    if not opened.reply.stream and opened.target.card.priced:
        pairs.append(("x-fingerpost-cost", f"{opened.meter.settle().cost_nanousd / 1e9:.9f}"))
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in pairs]


def strategy_headers(record: Record, opened: Opened, cost_usd: float | None) -> list[tuple[bytes, bytes]]:
    """Likewise where a strategy made several calls; `cost_usd` is that of all of them."""
    pairs = [one for one in answer_headers(record, opened) if one[0] != b"x-fingerpost-cost"]
    calls = len(record.children or ())
    pairs.append((b"x-fingerpost-strategy", f"{record.strategy}; calls={calls}".encode()))
    if not record.stream and cost_usd is not None:
        pairs.append((b"x-fingerpost-cost", f"{cost_usd:.9f}".encode()))
    return pairs


def _ranking(decision: Decision) -> list[dict[str, Any]]:
    return [
        {
            "endpoint": one.candidate.endpoint.id,
            "model": one.candidate.card.id,
            "quality": round(one.forecast.quality, 4),
            "quality_low": round(one.forecast.quality_low, 4),
            "quality_high": round(one.forecast.quality_high, 4),
            "output_tokens": one.forecast.output_tokens,
            "output_tokens_expected": one.forecast.expected_output_tokens,
            "output_tokens_high": one.forecast.output_tokens_high,
            "latency_ms": round(one.forecast.latency_ms, 1),
            "cost_nanousd": one.cost_nanousd,
            "score": round(one.score, 6),
            "propensity": round(one.propensity, 6),
            **_before_learning(one.forecast),
        }
        for one in decision.ranking
    ]


def _before_learning(forecast: Forecast) -> dict[str, Any]:
    """What late feedback is compared with and who learns from it, where the router goes on learning."""
    if forecast.prior_quality is None:
        return {}
    return {"prior_quality": round(forecast.prior_quality, 4), "learner": forecast.learner}


def _facts(query: Query) -> dict[str, Any]:
    """What routers learn from beside the embedding, kept with it so that no text is needed for that."""
    return {"facts": [round(one, 5) for one in query.facts], "features_version": query.features_version}


def _features(query: Query) -> dict[str, Any]:
    features = query.features
    return {
        "tokens": features.tokens,
        "max_output_tokens": features.max_output_tokens,
        "turns": features.turns,
        "language": features.language,
        "code": features.code,
        "tools": features.tools,
        "modalities": sorted(features.modalities),
    }
