"""Of each checked answer by which configuration and setting it was given, and how sure the verifier was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = (("calibration", sa.Text), ("share", sa.Double), ("score", sa.Double))


def upgrade() -> None:
    """Towards the newer shape. Of older checks this is not known: they teach, but certify nothing."""
    for name, kind in COLUMNS:
        op.add_column("cache_label", sa.Column(name, kind()))


def downgrade() -> None:
    """Back to the older shape."""
    for name, _ in reversed(COLUMNS):
        op.drop_column("cache_label", name)
