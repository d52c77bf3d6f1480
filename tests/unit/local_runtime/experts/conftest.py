"""A store of random experts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.local_runtime.experts.stores import write_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_store(tmp_path / "experts")
