"""Who is logged in to the admin console."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Towards the newer shape."""
    op.create_table(
        "console_session",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_console_session"),
    )
    op.create_index("ix_console_session_seen_at", "console_session", ["seen_at"])


def downgrade() -> None:
    """Back to the older shape; everybody is logged out."""
    op.drop_index("ix_console_session_seen_at", table_name="console_session")
    op.drop_table("console_session")
