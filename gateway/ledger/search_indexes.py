"""The indexes that searching `request_log` needs, beside those of its table."""

from __future__ import annotations

from sqlalchemy import Index, text


def search_indexes() -> list[Index]:
    """Partial where most requests are not of the kind, and then need not pay for it."""
    return [
        Index(None, "team_id", "at"),
        Index(None, "endpoint", "at"),
        Index(None, "policy", "at"),
        Index(None, "category", "at"),
        _partial("ix_request_log_failed", "status >= 400", "at", "status"),
        _partial(None, "error_code IS NOT NULL", "error_code", "at"),
        _partial(None, "cache_id IS NOT NULL", "cache_status", "at"),
        _partial("ix_request_log_tagged", "tags IS NOT NULL", "at"),
        _partial(None, "cost_nanousd >= 10000000", "cost_nanousd"),
        _partial(None, "total_ms >= 10000", "total_ms"),
    ]


def _partial(name: str | None, condition: str, *columns: str) -> Index:
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))
