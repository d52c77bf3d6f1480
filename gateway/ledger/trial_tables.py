"""The tables of drafts on trial, and of what shadows would have decided. See `tables` for units."""

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
    Table,
    Text,
    false,
    text,
)

from gateway.ledger.metadata import metadata

RUNNING: Final = "state = 'running'"
STATES: Final = "state IN ('running', 'promoted', 'rolled_back', 'stopped', 'failed')"

# Drafts on trial beside what is in force; at most one runs for a policy and scope. Times of `limits` are seconds.
policy_trial: Final = Table(
    "policy_trial",
    metadata,
    Column("id", Text, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("version_id", Integer, nullable=False),
    Column("scope", Text, nullable=False),
    Column("mode", Text, CheckConstraint("mode IN ('shadow', 'canary')", name="mode"), nullable=False),
    Column("share", Double, nullable=False),
    Column("state", Text, CheckConstraint(STATES, name="state"), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("limits", JSON(none_as_null=True), nullable=False),
    Column("control_sha256", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("ended_at", Double),
    Column("reason", Text),
    Column("note", Text, nullable=False),
    Index(None, "policy", "scope", unique=True, sqlite_where=text(RUNNING), postgresql_where=text(RUNNING)),
    Index(None, "started_at"),
)

# What is known of a canary, kept by whichever process holds it; others take over when `held_until` is past.
policy_trial_evidence: Final = Table(
    "policy_trial_evidence",
    metadata,
    Column("trial_id", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("held_until", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("evidence", LargeBinary),
    Column("verdict", JSON(none_as_null=True)),
)

# How the figures went, for a plot.
policy_trial_look: Final = Table(
    "policy_trial_look",
    metadata,
    Column("trial_id", Text, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("figures", JSON(none_as_null=True), nullable=False),
)

# What a draft on shadow trial would have decided; its columns are `ShadowDecision`'s fields. Forecasts are the draft's
# own; of the control's choice, `control_*`, they are the control's.
shadow_decision: Final = Table(
    "shadow_decision",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("trial_id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("model", Text),
    Column("propensity", Double),
    Column("quality", Double),
    Column("cost_nanousd", BigInteger),
    Column("agrees", Boolean, nullable=False, server_default=false()),
    Column("fault", Text),
    Column("control_model", Text),
    Column("control_quality", Double),
    Column("control_cost_nanousd", BigInteger),
    Index(None, "trial_id", "at"),
)
