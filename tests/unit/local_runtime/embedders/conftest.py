"""The exported int8 model, made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_runtime.embedders.base import Embedder
from tests.installed_embedders import installed_embedder


@pytest.fixture(scope="session")
def export_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="session")
def int8(export_dir: Path) -> Embedder:
    return installed_embedder("minilm_onnx", export_dir)
