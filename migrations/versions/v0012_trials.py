"""Drafts on trial: shadow and canary, what is known of them, and which requests they had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = (("trial_id", sa.Text), ("trial_arm", sa.Text), ("trial_unit", sa.Text), ("trial_share", sa.Double))
TRIED = sa.text("trial_id IS NOT NULL")
RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    """Towards the newer shape."""
    for name, kind in COLUMNS:
        op.add_column("request_log", sa.Column(name, kind()))
    for columns in (["trial_id", "at"], ["trial_id", "trial_unit", "at"]):
        name = f"ix_request_log_{'_'.join(columns)}"
        op.create_index(name, "request_log", columns, sqlite_where=TRIED, postgresql_where=TRIED)
    _trials()
    _findings()
    _shadows()


def _trials() -> None:
    op.create_table(
        "policy_trial",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("control_sha256", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("reason", sa.Text()),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_policy_trial"),
        sa.CheckConstraint("mode IN ('shadow', 'canary')", name=op.f("ck_policy_trial_mode")),
        sa.CheckConstraint(
            "state IN ('running', 'promoted', 'rolled_back', 'stopped', 'failed')", name=op.f("ck_policy_trial_state")
        ),
    )
    op.create_index("ix_policy_trial_started_at", "policy_trial", ["started_at"])
    op.create_index(
        "ix_policy_trial_policy_scope",
        "policy_trial",
        ["policy", "scope"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )


def _findings() -> None:
    op.create_table(
        "policy_trial_evidence",
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("held_until", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("evidence", sa.LargeBinary()),
        sa.Column("verdict", sa.JSON()),
        sa.PrimaryKeyConstraint("trial_id", name="pk_policy_trial_evidence"),
    )
    op.create_table(
        "policy_trial_look",
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("trial_id", "at", name="pk_policy_trial_look"),
    )


def _shadows() -> None:
    op.create_table(
        "shadow_decision",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("propensity", sa.Double()),
        sa.Column("quality", sa.Double()),
        sa.Column("cost_nanousd", sa.BigInteger()),
        sa.Column("agrees", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("fault", sa.Text()),
        sa.Column("control_model", sa.Text()),
        sa.Column("control_quality", sa.Double()),
        sa.Column("control_cost_nanousd", sa.BigInteger()),
        sa.PrimaryKeyConstraint("request_id", "trial_id", name="pk_shadow_decision"),
    )
    op.create_index("ix_shadow_decision_trial_id_at", "shadow_decision", ["trial_id", "at"])


def downgrade() -> None:
    """Back to the older shape. Trials that run end by that: whatever is in force serves everybody."""
    for table in ("shadow_decision", "policy_trial_look", "policy_trial_evidence", "policy_trial"):
        op.drop_table(table)
    for columns in (["trial_id", "trial_unit", "at"], ["trial_id", "at"]):
        op.drop_index(f"ix_request_log_{'_'.join(columns)}", "request_log")
    for name, _ in reversed(COLUMNS):
        op.drop_column("request_log", name)
