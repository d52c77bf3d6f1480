"""Which version of a policy is in force is a pointer of its own; drafts are versions that can't be."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Until now the newest version of a name was in force.
POINTERS = (
    "INSERT INTO policy_active (name, scope, version_id, revision, at, actor)"
    " SELECT name, '', id, 1, created_at, author FROM policy_version"
    " WHERE id IN (SELECT max(id) FROM policy_version GROUP BY name)"
)
MOVES = (
    "INSERT INTO policy_move (name, scope, version_id, revision, action, at, actor, note)"
    " SELECT name, '', id, 1, 'activate', created_at, author, note FROM policy_version"
    " WHERE id IN (SELECT max(id) FROM policy_version GROUP BY name)"
)


def upgrade() -> None:
    """Towards the newer shape."""
    op.add_column("policy_version", sa.Column("state", sa.Text(), nullable=False, server_default="ready"))
    op.add_column("policy_version", sa.Column("parent_id", sa.Integer()))
    op.create_table(
        "policy_active",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Integer()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "scope", name="pk_policy_active"),
    )
    op.create_table(
        "policy_move",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Integer()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_policy_move"),
        sa.UniqueConstraint("name", "scope", "revision", name="uq_policy_move_name_scope_revision"),
        sqlite_autoincrement=True,
    )
    op.execute(POINTERS)
    op.execute(MOVES)


def downgrade() -> None:
    """Back to the older shape, where whatever is newest is in force: drafts go, and what is in force becomes newest."""
    op.execute("DELETE FROM policy_version WHERE state = 'draft'")
    op.execute(
        "INSERT INTO policy_version (name, body, sha256, author, note, created_at)"
        " SELECT v.name, v.body, v.sha256, a.actor, 'in force before the downgrade', a.at"
        " FROM policy_active a JOIN policy_version v ON v.id = a.version_id WHERE a.scope = ''"
        " AND v.id <> (SELECT max(id) FROM policy_version m WHERE m.name = v.name)"
    )
    op.execute(
        "DELETE FROM policy_version WHERE name IN"
        " (SELECT name FROM policy_active WHERE scope = '' AND version_id IS NULL)"
    )
    op.drop_table("policy_move")
    op.drop_table("policy_active")
    op.drop_column("policy_version", "parent_id")
    op.drop_column("policy_version", "state")
