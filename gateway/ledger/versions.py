"""Where the migrations lie and how Alembic must compare and run them; knows no connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alembic.config import Config

from gateway.ledger.every_table import metadata
from gateway.ledger.revision import MIGRATIONS, VERSION_TABLE


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Other applications may live in the same PostgreSQL database; their tables are no drift of ours."""
    return kind != "table" or name in metadata.tables


OPTIONS: Final[dict[str, Any]] = {
    "version_table": VERSION_TABLE,
    "compare_type": True,
    "include_name": _is_ours,
    "render_as_batch": True,
    "transactional_ddl": True,
}


def alembic_config() -> Config:
    """A configuration that finds the `migrations` package beside `gateway`, in a checkout or in site-packages.

    (Not found by import name: another distribution, or the working folder, may hold a `migrations` too.)
    """
    config = Config()
    config.set_main_option("script_location", _escape(MIGRATIONS))
    return config


def _escape(path: Path) -> str:
    return str(path).replace("%", "%%")
