"""The metadata with every table in it: what migrations and comparisons need."""

from __future__ import annotations

from typing import Final

from gateway.ledger import lifecycle_tables, tables, trial_tables
from gateway.ledger.metadata import metadata

__all__ = ["MODULES", "metadata"]

MODULES: Final = (tables, lifecycle_tables, trial_tables)
