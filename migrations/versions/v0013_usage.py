"""Sums of the request log by five minutes, hours and days, and indexes that searching it needs.

The tables are made empty here; an upgrade to the newest revision fills them in the same transaction.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COUNTS = (
    *("requests", "errors", "failures", "cache_asked", "cache_hits", "input_tokens", "output_tokens"),
    *("cached_tokens", "cost_nanousd", "saved_nanousd"),
)
TIMES = tuple(f"{kind}_{bucket:02}" for kind in ("latency", "first_byte") for bucket in range(64))
TABLES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("usage_model", ("model", "endpoint"), TIMES),
    ("usage_category", ("policy", "category", "model"), ()),
    ("usage_caller", ("organisation_id", "team_id", "key_id", "model"), ()),
)
INDEXES = (
    ("ix_request_log_team_id_at", ("team_id", "at"), None),
    ("ix_request_log_endpoint_at", ("endpoint", "at"), None),
    ("ix_request_log_policy_at", ("policy", "at"), None),
    ("ix_request_log_category_at", ("category", "at"), None),
    ("ix_request_log_failed", ("at", "status"), "status >= 400"),
    ("ix_request_log_error_code_at", ("error_code", "at"), "error_code IS NOT NULL"),
    ("ix_request_log_cache_status_at", ("cache_status", "at"), "cache_id IS NOT NULL"),
    ("ix_request_log_tagged", ("at",), "tags IS NOT NULL"),
    ("ix_request_log_cost_nanousd", ("cost_nanousd",), "cost_nanousd >= 10000000"),
    ("ix_request_log_total_ms", ("total_ms",), "total_ms >= 10000"),
)


def upgrade() -> None:
    """Towards the newer shape."""
    for name, lines, times in TABLES:
        op.create_table(
            name,
            sa.Column("span_s", sa.Integer(), nullable=False),
            sa.Column("start", sa.BigInteger(), nullable=False),
            *(sa.Column(line, sa.Text(), nullable=False) for line in lines),
            *(sa.Column(count, sa.BigInteger(), nullable=False) for count in COUNTS),
            *(sa.Column(bucket, sa.Integer(), nullable=False) for bucket in times),
            sa.PrimaryKeyConstraint("span_s", "start", *lines, name=f"pk_{name}"),
            postgresql_with={"fillfactor": 70},
            sqlite_with_rowid=False,
        )
    for name, columns, only in INDEXES:
        where = None if only is None else sa.text(only)
        op.create_index(name, "request_log", list(columns), sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Back to the older shape; a later upgrade counts the log anew."""
    for name, _, _ in reversed(INDEXES):
        op.drop_index(name, "request_log")
    for name, _, _ in reversed(TABLES):
        op.drop_table(name)
