"""The tables of Fingerpost as SQLAlchemy Core metadata, the same on SQLite and PostgreSQL.

Times are Unix seconds, money is nano-dollars. `request_log`'s columns are `Record`'s fields, in the same order.
A change here needs a file in `migrations/versions` (a test compares both).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
)

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata: Final = MetaData(naming_convention=NAMING)

request_log: Final = Table(
    "request_log",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("route", Text, nullable=False),
    Column("key_id", Text),
    Column("policy", Text),
    Column("policy_sha256", Text),
    Column("category", Text),
    Column("model_requested", Text),
    Column("model", Text),
    Column("endpoint", Text),
    Column("provider", Text),
    Column("router_kind", Text),
    Column("reason", Text),
    Column("propensity", Double),
    Column("decision", JSON(none_as_null=True)),
    Column("attempts", JSON(none_as_null=True)),
    Column("features", JSON(none_as_null=True)),
    Column("embedding", LargeBinary),
    Column("embedder", Text),
    Column("stream", Boolean, nullable=False, server_default=false()),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("error_code", Text),
    Column("finish_reason", Text),
    Column("cache_status", Text, nullable=False, server_default="off"),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("usage_estimated", Boolean, nullable=False, server_default=false()),
    Column("cost_nanousd", BigInteger),
    Column("embed_ms", Double),
    Column("route_ms", Double),
    Column("first_byte_ms", Double),
    Column("total_ms", Double),
    Column("prompt", Text),
    Column("answer", Text),
    Index(None, "at"),
    Index(None, "key_id", "at"),
    Index(None, "model", "at"),
)

# No foreign key leads here from request_log: a record must be storable when its key is long gone.
api_key: Final = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("role", Text, CheckConstraint("role IN ('application', 'admin')", name="role"), nullable=False),
    Column("policy", Text),
    Column("allowed_models", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("metadata", JSON(none_as_null=True), nullable=False),
)

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
    Index(None, "name", "id"),
    sqlite_autoincrement=True,
)
