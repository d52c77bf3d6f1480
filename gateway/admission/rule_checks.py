"""What a budget and a rate limit may say; dollars at the border, nano-dollars inside. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from gateway.admission.rules import Budget, Period, RateLimit, Scope, Window, WindowKind
from gateway.admission.terms import Known, RefusedField, check_tag, storable

NANO: Final = 1_000_000_000
MAX_USD: Final = 9_000_000  # in nano-dollars below 2**53, so that every store, also Redis, adds them up exactly
SHORTEST_WINDOW_S: Final = 60
LONGEST_WINDOW_S: Final = 366 * 86_400
MAX_RATE: Final = 1_000_000_000_000
MAX_URL_CHARS: Final = 2000


def to_nanousd(limit_usd: Decimal) -> int:
    """Dollars as nano-dollars; `RefusedField` for what is no amount a budget can have."""
    if not limit_usd.is_finite() or not 0 <= limit_usd <= MAX_USD:
        raise RefusedField("limit_usd", f"'limit_usd' must be a number of dollars from 0 to {MAX_USD:,}.")
    nanousd = limit_usd * NANO
    if nanousd != int(nanousd):
        raise RefusedField("limit_usd", "'limit_usd' is finer than a nano-dollar (nine decimal places).")
    return int(nanousd)


def to_usd(nanousd: int) -> float:
    """Nano-dollars as dollars, for people."""
    return nanousd / NANO


def window_of(kind: str, period: str | None, window_s: int | None) -> Window:
    """A budget's window from its three parts; `RefusedField` where they do not go together."""
    if kind == WindowKind.CALENDAR:
        if period is None:
            raise RefusedField("period", f"A calendar window needs 'period': {', '.join(Period)}.")
        _refuse(window_s is not None, "window_s", "'window_s' belongs to rolling windows, 'period' to calendar ones.")
        return Window(WindowKind.CALENDAR, Period(period), None)
    _refuse(period is not None, "period", "'period' belongs to calendar windows only.")
    if kind == WindowKind.TOTAL:
        _refuse(window_s is not None, "window_s", "'window_s' belongs to rolling windows only.")
        return Window()
    if window_s is None or not SHORTEST_WINDOW_S <= window_s <= LONGEST_WINDOW_S:
        bounds = f"{SHORTEST_WINDOW_S} to {LONGEST_WINDOW_S}"
        raise RefusedField("window_s", f"A rolling window needs 'window_s': its length in seconds, {bounds}.")
    return Window(WindowKind.ROLLING, None, window_s)


def check_budget(budget: Budget) -> None:
    """Raise `RefusedField` for a budget that could not be kept or told about."""
    if not 0 <= budget.limit_nanousd <= MAX_USD * NANO:
        raise RefusedField("limit_usd", f"'limit_usd' must be a number of dollars from 0 to {MAX_USD:,}.")
    if budget.webhook_url is not None:
        _check_url(budget.webhook_url)


def check_limit(limit: RateLimit) -> None:
    """Raise `RefusedField` for a limit that bounds nothing, or bounds with nonsense."""
    bounds = {
        "requests_per_minute": limit.requests_per_minute,
        "tokens_per_minute": limit.tokens_per_minute,
        "concurrent_requests": limit.concurrent_requests,
    }
    for name, bound in bounds.items():
        if bound is not None and not 1 <= bound <= MAX_RATE:
            raise RefusedField(name, f"'{name}' must be a whole number from 1 to {MAX_RATE}; revoke a key to stop it.")
    if all(bound is None for bound in bounds.values()):
        raise RefusedField("requests_per_minute", f"Give at least one of {', '.join(bounds)}.")


def check_subject(scope: Scope, scope_id: str, known: Known) -> None:
    """Raise `RefusedField` for a model or tag that does not exist; whether a tenant does, only its table can tell."""
    if not storable(scope_id) or not scope_id:
        raise RefusedField("scope_id", "'scope_id' must name what the rule is for.")
    if scope is Scope.MODEL and scope_id not in known.models:
        raise RefusedField("scope_id", f"There is no model '{scope_id[:80]}' in the catalogue.")
    if scope is Scope.TAG:
        check_tag(scope_id, "scope_id")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or len(url) > MAX_URL_CHARS or not (url.isascii() and url.isprintable() and " " not in url):
        raise RefusedField("webhook_url", "'webhook_url' must be a URL such as https://host/path.")


def _refuse(wrong: bool, field: str, message: str) -> None:
    if wrong:
        raise RefusedField(field, message)
