"""The tables of policies' lives and of those who edit them. See `tables` for units."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, Table, Text, UniqueConstraint

from gateway.ledger.metadata import metadata

# Rows are added, never changed; `state` is 'draft' or 'ready', `parent_id` what it was made from.
policy_version: Final = Table(
    "policy_version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", Text, nullable=False, server_default="ready"),
    Column("parent_id", Integer),
    Index(None, "name", "id"),
    sqlite_autoincrement=True,
)

# Which version of a policy is in force, for everybody (scope "") or an organisation, team or key ("team:ID"); NULL:
# what files say. Each move of it is a row of `policy_move`.
policy_active: Final = Table(
    "policy_active",
    metadata,
    Column("name", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("version_id", Integer),
    Column("revision", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
)

policy_move: Final = Table(
    "policy_move",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("version_id", Integer),
    Column("revision", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    UniqueConstraint("name", "scope", "revision"),
    sqlite_autoincrement=True,
)

# Dry runs: `state` is running, done, failed or cancelled, `done` a share, `asked` what was wanted; who runs one says so
# at `seen_at` again and again.
policy_report: Final = Table(
    "policy_report",
    metadata,
    Column("id", Text, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("version_id", Integer),
    Column("body", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("done", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("asked", JSON(none_as_null=True), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("result", JSON(none_as_null=True)),
    Column("error", Text),
    Index(None, "policy", "created_at"),
)

# Who is logged in to the console: by the hash of a cookie's token. `subject` is who stands in the audit log; `key_id`
# the admin key that opened the session, whose end is its end.
console_session: Final = Table(
    "console_session",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("key_id", Text),
    Column("csrf", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Index(None, "seen_at"),
)
