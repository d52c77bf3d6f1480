"""Which cached answer a request got, how sure that was, and what it saved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Towards the newer shape."""
    op.add_column("request_log", sa.Column("cache_id", sa.Text()))
    op.add_column("request_log", sa.Column("cache_score", sa.Double()))
    op.add_column("request_log", sa.Column("saved_nanousd", sa.BigInteger()))


def downgrade() -> None:
    """Back to the older shape. Which requests were answered from the cache stays in `cache_status`."""
    for column in ("saved_nanousd", "cache_score", "cache_id"):
        op.drop_column("request_log", column)
