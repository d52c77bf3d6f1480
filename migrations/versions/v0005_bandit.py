"""What bandits have learned, from which feedback, and what trying models has taken from each day's allowance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Towards the newer shape."""
    op.create_table(
        "bandit_state",
        sa.Column("learner", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("learner", "model", name="pk_bandit_state"),
    )
    op.create_table(
        "bandit_lesson",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("learner", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "source", name="pk_bandit_lesson"),
    )
    op.create_table(
        "exploration_spend",
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("taken_nanousd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy", "day", name="pk_exploration_spend"),
    )


def downgrade() -> None:
    """Back to the older shape. What was learned is lost; a new start learns the feedback that is there anew."""
    for table in ("exploration_spend", "bandit_lesson", "bandit_state"):
        op.drop_table(table)
