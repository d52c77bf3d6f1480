"""The embedder that serves, and its exported form, made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_runtime.embedders.base import Embedder
from tests.installed_embedders import installed_embedder


@pytest.fixture(scope="session")
def export_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="session")
def exported(export_dir: Path) -> Embedder:
    """Through ONNX Runtime, whether or not there are kernels."""
    pytest.importorskip("onnxruntime")
    from local_runtime.embedders.minilm_onnx import load_onnx

    installed_embedder("minilm_onnx", export_dir)
    return load_onnx(export_dir)


@pytest.fixture(scope="session", params=["served", "exported"])
def int8(request: pytest.FixtureRequest, export_dir: Path, exported: Embedder) -> Embedder:
    return exported if request.param == "exported" else installed_embedder("minilm_onnx", export_dir)
