"""Organisations, teams, budgets, limits, secrets, the audit log, stored conversations; more columns in the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCOPES = "scope IN ('organisation', 'team', 'key', 'model', 'tag')"
WINDOWS = "\"window\" IN ('total', 'calendar', 'rolling')"
LIVING = "revoked_at IS NULL"
NAMED = "end_user IS NOT NULL"
APPEND_ONLY = "audit_log is append-only"

NEW_TABLES = (
    "organisation",
    "team",
    "budget",
    "rate_limit",
    "budget_spend",
    "budget_lock",
    "lease",
    "change",
    "provider_secret",
    "audit_log",
    "stored_response",
)


def upgrade() -> None:
    """Towards the newer shape."""
    for column in _log_columns():
        op.add_column("request_log", column)
    _create_partial_index("request_log", ["end_user", "at"], NAMED)
    _create_tenants()
    _extend_api_key()
    _create_rules()
    _create_gauges()
    _create_the_rest()
    _protect_audit_log()


def downgrade() -> None:
    """Back to the older shape. What the new tables and columns held is lost."""
    op.drop_index("ix_request_log_end_user_at", "request_log")
    for column in _log_columns():
        op.drop_column("request_log", column.name)
    _reduce_api_key()
    for table in reversed(NEW_TABLES):
        op.drop_table(table)  # with its triggers
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_log_refuse()")


def _create_partial_index(table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    name, where = f"ix_{table}_{'_'.join(columns)}", sa.text(condition)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _log_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("team_id", sa.Text()),
        sa.Column("organisation_id", sa.Text()),
        sa.Column("end_user", sa.Text()),
        sa.Column("tags", sa.JSON()),
        sa.Column("session", sa.Text()),
        sa.Column("trace_id", sa.Text()),
        sa.Column("span_id", sa.Text()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("audio_tokens", sa.BigInteger()),
        sa.Column("images", sa.BigInteger()),
        sa.Column("reserved_nanousd", sa.BigInteger()),
        sa.Column("price_since", sa.Text()),
        sa.Column("budget_exhausted", sa.Boolean(), nullable=False, server_default=sa.false()),
    ]


def _create_tenants() -> None:
    op.create_table(
        "organisation",
        sa.Column("id", sa.Text(), nullable=False),
        *_terms(),
        sa.PrimaryKeyConstraint("id", name="pk_organisation"),
    )
    _create_partial_index("organisation", ["name"], LIVING, unique=True)
    op.create_table(
        "team",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organisation_id", sa.Text(), nullable=False),
        *_terms(),
        sa.PrimaryKeyConstraint("id", name="pk_team"),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisation.id"], name="fk_team_organisation_id_organisation"),
    )
    _create_partial_index("team", ["organisation_id", "name"], LIVING, unique=True)


def _terms() -> list[sa.Column[object]]:
    return [
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text()),
        sa.Column("allowed_models", sa.JSON()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("metadata", sa.JSON(), nullable=False),
    ]


def _extend_api_key() -> None:
    # Plain SQL: Alembic would rebuild SQLite's table for the reference, and lose its CHECK on the way.
    reference = "CONSTRAINT fk_api_key_team_id_team REFERENCES team (id)"
    op.execute(f"ALTER TABLE api_key ADD COLUMN team_id TEXT {reference}")
    op.add_column("api_key", sa.Column("root_id", sa.Text()))
    op.add_column("api_key", sa.Column("rotated_to", sa.Text()))


def _reduce_api_key() -> None:
    op.drop_column("api_key", "rotated_to")
    op.drop_column("api_key", "root_id")
    op.drop_column("api_key", "team_id")


def _create_rules() -> None:
    op.create_table(
        "budget",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("limit_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("period", sa.Text()),
        sa.Column("window_s", sa.BigInteger()),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("webhook_url", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budget"),
        sa.CheckConstraint(SCOPES, name=op.f("ck_budget_scope")),
        sa.CheckConstraint(WINDOWS, name=op.f("ck_budget_window")),
    )
    op.create_index("ix_budget_scope_scope_id", "budget", ["scope", "scope_id"])
    op.create_table(
        "rate_limit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger()),
        sa.Column("tokens_per_minute", sa.BigInteger()),
        sa.Column("concurrent_requests", sa.BigInteger()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rate_limit"),
        sa.UniqueConstraint("scope", "scope_id", name="uq_rate_limit_scope_scope_id"),
        sa.CheckConstraint(SCOPES, name=op.f("ck_rate_limit_scope")),
    )


def _create_gauges() -> None:
    op.create_table(
        "budget_spend",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("bucket_start", sa.BigInteger(), nullable=False),
        sa.Column("spent_nanousd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "bucket_start", name="pk_budget_spend"),
    )
    op.create_table(
        "budget_lock",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("reserved_nanousd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", name="pk_budget_lock"),
    )
    op.create_table(
        "lease",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("reserved_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("buckets", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lease"),
    )
    op.create_index("ix_lease_expires_at", "lease", ["expires_at"])


def _create_the_rest() -> None:
    op.create_table(
        "change",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "provider_secret",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("rotated_at", sa.Double()),
        sa.PrimaryKeyConstraint("name", name="pk_provider_secret"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_sha256", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.UniqueConstraint("previous_sha256", name="uq_audit_log_previous_sha256"),
    )
    op.create_table(
        "stored_response",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("end_user", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("previous_id", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stored_response"),
    )
    op.create_index("ix_stored_response_expires_at", "stored_response", ["expires_at"])


def _protect_audit_log() -> None:
    """Whoever wants to change history must first remove a trigger; the chain of hashes then tells."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{APPEND_ONLY}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()"
        )
        return
    # INSERT OR REPLACE deletes the row in its way without asking the trigger for DELETE.
    taken = "EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id OR previous_sha256 = NEW.previous_sha256)"
    for name, when in (
        ("update", "UPDATE ON audit_log"),
        ("delete", "DELETE ON audit_log"),
        ("replace", f"INSERT ON audit_log WHEN {taken}"),
    ):
        op.execute(f"CREATE TRIGGER audit_log_no_{name} BEFORE {when} BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY}'); END")
