"""The tables over time, for Alembic; the gateway finds this folder beside its own."""
