"""The first tables: request_log, api_key, policy_version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Towards the newer shape."""
    _create_request_log()
    _create_api_key()
    _create_policy_version()


def downgrade() -> None:
    """Back to the older shape: an empty database."""
    for table in ("policy_version", "api_key", "request_log"):
        op.drop_table(table)


def _create_request_log() -> None:
    op.create_table(
        "request_log",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("policy", sa.Text()),
        sa.Column("policy_sha256", sa.Text()),
        sa.Column("category", sa.Text()),
        sa.Column("model_requested", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("endpoint", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("router_kind", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("propensity", sa.Double()),
        sa.Column("decision", sa.JSON()),
        sa.Column("attempts", sa.JSON()),
        sa.Column("features", sa.JSON()),
        sa.Column("embedding", sa.LargeBinary()),
        sa.Column("embedder", sa.Text()),
        sa.Column("stream", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("status", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text()),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("cache_status", sa.Text(), nullable=False, server_default="off"),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("cost_nanousd", sa.BigInteger()),
        sa.Column("embed_ms", sa.Double()),
        sa.Column("route_ms", sa.Double()),
        sa.Column("first_byte_ms", sa.Double()),
        sa.Column("total_ms", sa.Double()),
        sa.Column("prompt", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_request_log"),
    )
    for columns in (["at"], ["key_id", "at"], ["model", "at"]):
        op.create_index(f"ix_request_log_{'_'.join(columns)}", "request_log", columns)


def _create_api_key() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text()),
        sa.Column("allowed_models", sa.JSON()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("sha256", name="uq_api_key_sha256"),
        sa.CheckConstraint("role IN ('application', 'admin')", name=op.f("ck_api_key_role")),
    )


def _create_policy_version() -> None:
    op.create_table(
        "policy_version",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_policy_version_name_id", "policy_version", ["name", "id"])
