"""The calls of requests that a strategy made several of, and which strategy that was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Towards the newer shape."""
    op.add_column("request_log", sa.Column("strategy", sa.Text()))
    op.create_table(
        "request_child",
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("endpoint", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("status", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text()),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("chosen", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("cost_nanousd", sa.BigInteger()),
        sa.Column("reserved_nanousd", sa.BigInteger()),
        sa.Column("began_ms", sa.Double()),
        sa.Column("latency_ms", sa.Double()),
        sa.Column("signals", sa.JSON()),
        sa.PrimaryKeyConstraint("parent_id", "seq", name="pk_request_child"),
    )


def downgrade() -> None:
    """Back to the older shape. The calls of strategies are lost, their requests stay."""
    op.drop_table("request_child")
    op.drop_column("request_log", "strategy")
