"""The tables of Fingerpost as SQLAlchemy Core metadata, the same on SQLite and PostgreSQL.

Times are Unix seconds, money is nano-dollars. `request_log`'s columns are `Record`'s fields, in the same order, and
`request_child`'s are those of `Child`.
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
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from gateway.ledger.metadata import metadata
from gateway.ledger.search_indexes import search_indexes
from gateway.ledger.usage_tables import usage_tables

LIVING: Final = "revoked_at IS NULL"
NAMED: Final = "end_user IS NOT NULL"
TRIED: Final = "trial_id IS NOT NULL"
SCOPES: Final = "scope IN ('organisation', 'team', 'key', 'model', 'tag')"
WINDOWS: Final = "\"window\" IN ('total', 'calendar', 'rolling')"

request_log: Final = Table(
    "request_log",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("route", Text, nullable=False),
    Column("key_id", Text),
    Column("team_id", Text),
    Column("organisation_id", Text),
    Column("end_user", Text),
    Column("tags", JSON(none_as_null=True)),
    Column("session", Text),
    Column("trace_id", Text),
    Column("span_id", Text),
    Column("policy", Text),
    Column("policy_sha256", Text),
    Column("category", Text),
    Column("model_requested", Text),
    Column("model", Text),
    Column("endpoint", Text),
    Column("provider", Text),
    Column("router_kind", Text),
    Column("strategy", Text),
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
    Column("cache_id", Text),
    Column("cache_score", Double),
    Column("saved_nanousd", BigInteger),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("audio_tokens", BigInteger),
    Column("images", BigInteger),
    Column("usage_estimated", Boolean, nullable=False, server_default=false()),
    Column("cost_nanousd", BigInteger),
    Column("reserved_nanousd", BigInteger),
    Column("price_since", Text),
    Column("budget_exhausted", Boolean, nullable=False, server_default=false()),
    Column("embed_ms", Double),
    Column("route_ms", Double),
    Column("first_byte_ms", Double),
    Column("total_ms", Double),
    Column("prompt", Text),
    Column("answer", Text),
    Column("trial_id", Text),
    Column("trial_arm", Text),
    Column("trial_unit", Text),
    Column("trial_share", Double),
    Index(None, "at"),
    Index(None, "key_id", "at"),
    Index(None, "model", "at"),
    # Partial, since most requests name no end user and then need not pay for it.
    Index(None, "end_user", "at", sqlite_where=text(NAMED), postgresql_where=text(NAMED)),
    Index(None, "trial_id", "at", sqlite_where=text(TRIED), postgresql_where=text(TRIED)),
    Index(None, "trial_id", "trial_unit", "at", sqlite_where=text(TRIED), postgresql_where=text(TRIED)),
    *search_indexes(),
)

# The calls of requests whose answer a strategy made of several. No foreign key: they are written with their request.
request_child: Final = Table(
    "request_child",
    metadata,
    Column("parent_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("role", Text, nullable=False),
    Column("model", Text),
    Column("endpoint", Text),
    Column("provider", Text),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("error_code", Text),
    Column("finish_reason", Text),
    Column("chosen", Boolean, nullable=False, server_default=false()),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("usage_estimated", Boolean, nullable=False, server_default=false()),
    Column("cost_nanousd", BigInteger),
    Column("reserved_nanousd", BigInteger),
    Column("began_ms", Double),
    Column("latency_ms", Double),
    Column("signals", JSON(none_as_null=True)),
)

# The name of what was revoked is free again.
organisation: Final = Table(
    "organisation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("policy", Text),
    Column("allowed_models", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("metadata", JSON(none_as_null=True), nullable=False),
    Index(None, "name", unique=True, sqlite_where=text(LIVING), postgresql_where=text(LIVING)),
)

team: Final = Table(
    "team",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organisation_id", Text, ForeignKey("organisation.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("policy", Text),
    Column("allowed_models", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("metadata", JSON(none_as_null=True), nullable=False),
    Index(None, "organisation_id", "name", unique=True, sqlite_where=text(LIVING), postgresql_where=text(LIVING)),
)

# No foreign key leads here from request_log: a record must be storable when its key is long gone.
# `root_id` is the first key of the line that this one was rotated from (NULL: itself): budgets and limits follow it.
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
    Column("team_id", Text, ForeignKey("team.id")),
    Column("root_id", Text),
    Column("rotated_to", Text),
)

# `scope_id` is an id of organisation, team or key (of a rotated key: its root's), a model's id, or a tag.
budget: Final = Table(
    "budget",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", Text, CheckConstraint(SCOPES, name="scope"), nullable=False),
    Column("scope_id", Text, nullable=False),
    Column("limit_nanousd", BigInteger, nullable=False),
    Column("window", Text, CheckConstraint(WINDOWS, name="window"), nullable=False),
    Column("period", Text),
    Column("window_s", BigInteger),
    Column("hard", Boolean, nullable=False),
    Column("webhook_url", Text),
    Column("created_at", Double, nullable=False),
    Index(None, "scope", "scope_id"),
)

rate_limit: Final = Table(
    "rate_limit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", Text, CheckConstraint(SCOPES, name="scope"), nullable=False),
    Column("scope_id", Text, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("concurrent_requests", BigInteger),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("scope", "scope_id"),
)

# What was spent in each stretch of time: all there is where SQL keeps the gauges, a copy where Redis does.
# No foreign key: what was spent stays known when its budget is long gone.
budget_spend: Final = Table(
    "budget_spend",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("bucket_start", BigInteger, primary_key=True),
    Column("spent_nanousd", BigInteger, nullable=False),
)

# Only where SQL keeps the gauges. `budget_lock` is what transactions queue at; `reserved` sums the leases' parts.
budget_lock: Final = Table(
    "budget_lock",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("reserved_nanousd", BigInteger, nullable=False),
)

lease: Final = Table(
    "lease",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires_at", Double, nullable=False),
    Column("reserved_nanousd", BigInteger, nullable=False),
    Column("buckets", JSON(none_as_null=True), nullable=False),
    Index(None, "expires_at"),
)

# A row tells running gateways that something they keep in memory has changed.
change: Final = Table(
    "change",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False),
    sqlite_autoincrement=True,
)

provider_secret: Final = Table(
    "provider_secret",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("rotated_at", Double),
)

# Append-only; each row's hash covers the row and the hash before it.
audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous_sha256", Text, nullable=False, unique=True),
    Column("sha256", Text, nullable=False),
)

# Conversations that `previous_response_id` may refer to.
stored_response: Final = Table(
    "stored_response",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("end_user", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("previous_id", Text),
    Column("body", Text, nullable=False),
    Column("items", Text, nullable=False),
    Index(None, "expires_at"),
)

# What callers thought of an answer; one row of each source, whose last word counts. No foreign key: the request's own
# row may come later, or be gone.
feedback: Final = Table(
    "feedback",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("score", Double, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("comment", Text),
    Index(None, "at"),
)

# What bandits have learned: sums of one learner (an artifact) over one model, and which feedbacks are in them.
bandit_state: Final = Table(
    "bandit_state",
    metadata,
    Column("learner", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("sums", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

bandit_lesson: Final = Table(
    "bandit_lesson",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("learner", Text, nullable=False),
    Column("score", Double, nullable=False),
)

# What processes have taken of a policy's allowance for trying models, by day (UTC, since 1970).
exploration_spend: Final = Table(
    "exploration_spend",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("taken_nanousd", BigInteger, nullable=False),
)

# What is known of answers given by likeness, summed up over all processes: by which configuration, at a setting that is
# certified for which share of wrong ones, of which tenant and topic. `closed_at`: since when too many were wrong.
cache_evidence: Final = Table(
    "cache_evidence",
    metadata,
    Column("calibration", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("share", Double, primary_key=True),
    Column("hits", BigInteger, nullable=False),
    Column("reported", BigInteger, nullable=False),
    Column("same", BigInteger, nullable=False),
    Column("different", BigInteger, nullable=False),
    Column("undecided", BigInteger, nullable=False),
    Column("closed_at", Double),
)

# Each of those answers that was checked (by the check's request) or called wrong (by its own id); the questions only
# where prompts are kept. Calibration, share and score are not known of those that were checked before version 0008.
cache_label: Final = Table(
    "cache_label",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("end_user", Text),
    Column("asked", Text),
    Column("cached", Text),
    Column("calibration", Text),
    Column("share", Double),
    Column("score", Double),
    Index(None, "at"),
)

usage_model, usage_category, usage_caller = usage_tables(metadata)
