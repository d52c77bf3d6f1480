"""From a store's refusal to what the caller is told: message, status, Retry-After and OpenAI's headers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from typing import Final

from gateway.admission.gauges import Kind, Quota, Refused
from gateway.admission.rules import Budget, Period, RateLimit, Window, WindowKind
from gateway.errors import BudgetExceeded, Overloaded, PriceUnknown, RateLimited

Headers = tuple[tuple[bytes, bytes], ...]
# A call in flight ends soon, but nobody knows when.
CONCURRENT_RETRY_S: Final = 1.0
_UNITS: Final = {
    Kind.REQUESTS: "requests per minute",
    Kind.TOKENS: "tokens per minute",
    Kind.CONCURRENT: "requests at the same time",
}
_PERIODS: Final = {Period.HOUR: "hourly", Period.DAY: "daily", Period.WEEK: "weekly", Period.MONTH: "monthly"}


class BudgetStoreUnavailable(Overloaded):
    """A hard budget bounds the call, its counters can't be reached, and the policy says to refuse then."""

    code = "budget_store_unavailable"


def rate_limited(limit: RateLimit | None, refused: Refused, tokens: int, passed_s: float = 0.0) -> RateLimited:
    """The error for a call of `tokens`; `passed_s` is how long ago the store said so."""
    retry_s = _left(refused.retry_after_s, passed_s)
    error = RateLimited(_rate_message(limit, refused.kind, tokens, retry_s))
    error.retry_after_s = CONCURRENT_RETRY_S if retry_s is None and refused.kind is Kind.CONCURRENT else retry_s
    error.headers = quota_headers(_aged(refused.requests, passed_s), _aged(refused.tokens, passed_s))
    return error


def _rate_message(limit: RateLimit | None, kind: Kind, tokens: int, retry_s: float | None) -> str:
    if limit is None:
        return "A rate limit is reached."
    value = {
        Kind.REQUESTS: limit.requests_per_minute,
        Kind.TOKENS: limit.tokens_per_minute,
        Kind.CONCURRENT: limit.concurrent_requests,
    }.get(kind)
    message = f"The rate limit of {limit.scope.value} '{limit.scope_id}' is reached: {value} {_UNITS.get(kind, '')}."
    if kind is Kind.TOKENS:
        message += f" This call may take {tokens} tokens."
        if value is not None and tokens > value:
            return message + " That is more than the limit ever allows; shorten the prompt or lower max_tokens."
    return message if retry_s is None else f"{message} Try again in {duration(retry_s)}."


def budget_exceeded(budget: Budget | None, refused: Refused, cost_nanousd: int, now: float) -> BudgetExceeded:
    """The error for a call that may cost `cost_nanousd`; `now` is Unix time in seconds."""
    if budget is None:
        message = "A budget does not cover this call."
        return BudgetExceeded(message, budget_id=refused.rule_id, retry_after_s=refused.retry_after_s)
    free = refused.free_nanousd
    message = (
        f"The {window_name(budget.window)} budget of {budget.scope.value} '{budget.scope_id}' does not cover this call:"
        f" of {usd(budget.limit_nanousd)} USD {usd(max(budget.limit_nanousd - free, 0))} USD are spent or reserved,"
        f" {usd(max(free, 0))} USD are free, and the call may cost up to {usd(cost_nanousd)} USD."
        f" {_reset(budget.window, refused.retry_after_s, now)} (budget {budget.id})"
    )
    return BudgetExceeded(message, budget_id=budget.id, retry_after_s=refused.retry_after_s)


def _reset(window: Window, retry_after_s: float | None, now: float) -> str:
    if retry_after_s is None:
        if window.kind is WindowKind.TOTAL:
            return "It does not reset by itself."
        return "The call may cost more than the whole budget."
    at = datetime.fromtimestamp(now + retry_after_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if window.kind is WindowKind.ROLLING:
        return f"Money becomes free little by little, enough for this call at {at}."
    return f"It resets at {at}."


def price_unknown(model_ids: Iterable[str]) -> PriceUnknown:
    """The error where a hard budget bounds the call and no model that could answer has a price."""
    names = list(dict.fromkeys(model_ids))
    shown = ", ".join(f"'{name}'" for name in names[:4]) + (" and others" if len(names) > 4 else "")
    return PriceUnknown(
        f"A hard budget bounds this call, but the price of {shown} is unknown. Add price_in_usd_per_mtok and"
        f' price_out_usd_per_mtok to the catalogue\'s [[model]] row with id = "{names[0]}" (0 means free).',
        param="model",
    )


def budget_store_unavailable(budgets: Sequence[Budget], retry_after_s: float) -> BudgetStoreUnavailable:
    """The error while the counters of hard budgets can't be reached."""
    names = ", ".join(f"{one.scope.value} '{one.scope_id}'" for one in budgets if one.hard)
    return BudgetStoreUnavailable(
        f"The budget store does not answer, so it can't be said whether the budget of {names} covers this call."
        " It is refused, as the policy asks (budget.when_store_is_away).",
        retry_after_s=retry_after_s,
    )


def quota_headers(requests: Quota | None, tokens: Quota | None) -> Headers:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, as OpenAI names and writes them."""
    if requests is None:
        return _quota(b"tokens", tokens) if tokens is not None else ()
    return _quota(b"requests", requests) + (_quota(b"tokens", tokens) if tokens is not None else ())


def _quota(what: bytes, quota: Quota) -> Headers:
    return (
        (b"x-ratelimit-limit-" + what, b"%d" % quota.limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % max(quota.remaining, 0)),
        (b"x-ratelimit-reset-" + what, duration(quota.reset_s).encode()),
    )


def warning_header(budgets: Iterable[Budget]) -> tuple[bytes, bytes]:
    """Which soft budgets are exceeded."""
    spent = [
        f"{window_name(one.window)} budget of {one.scope.value} {one.scope_id!a} is above {usd(one.limit_nanousd)} USD"
        for one in budgets
    ]
    return b"x-fingerpost-budget-warning", ", ".join(spent).encode()


def duration(seconds: float) -> str:
    """As in OpenAI's headers: "20ms", "6s", "1m0s", "1h2m3s"; rounded up, above a minute to whole seconds."""
    if seconds < 1:
        return f"{max(ceil(seconds * 1000), 0)}ms" if seconds <= 0.999 else "1s"
    if seconds < 60:
        hundredths = ceil(seconds * 100 - 1e-6)
        return f"{hundredths / 100:g}s" if hundredths < 6000 else "1m0s"
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def usd(nanousd: int) -> str:
    """Dollars with at least two digits after the point and no needless zeros."""
    whole, rest = divmod(abs(nanousd), 1_000_000_000)
    cents, finer = divmod(rest, 10_000_000)
    sign = "-" if nanousd < 0 else ""
    return f"{sign}{whole}.{cents:02d}" + f"{finer:07d}".rstrip("0")


def window_name(window: Window) -> str:
    """How people call it: "daily", "rolling 3600 s", "total"."""
    if window.kind is WindowKind.CALENDAR and window.period is not None:
        return _PERIODS[window.period]
    return f"rolling {window.seconds} s" if window.kind is WindowKind.ROLLING else "total"


def _left(seconds: float | None, passed_s: float) -> float | None:
    return None if seconds is None else max(seconds - passed_s, 0.0)


def _aged(quota: Quota | None, passed_s: float) -> Quota | None:
    return quota if quota is None or not passed_s else replace(quota, reset_s=max(quota.reset_s - passed_s, 0.0))
