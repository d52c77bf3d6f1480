"""What is known of answers that were given by likeness: how many were right, and which settings are closed for that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Towards the newer shape."""
    op.create_table(
        "cache_evidence",
        sa.Column("calibration", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("hits", "reported", "same", "different", "undecided")
        ),
        sa.Column("closed_at", sa.Double()),
        sa.PrimaryKeyConstraint("calibration", "tenant", "topic", "share", name="pk_cache_evidence"),
    )
    op.create_table(
        "cache_label",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("end_user", sa.Text()),
        sa.Column("asked", sa.Text()),
        sa.Column("cached", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_cache_label"),
    )
    op.create_index("ix_cache_label_at", "cache_label", ["at"])


def downgrade() -> None:
    """Back to the older shape. What was learned of answers is lost: all certified settings are open again."""
    for table in ("cache_label", "cache_evidence"):
        op.drop_table(table)
