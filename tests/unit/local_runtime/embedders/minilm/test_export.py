"""The exporter: proves what it makes, writes it whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from safetensors.numpy import load_file

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import ExportFailed
from local_runtime.embedders.minilm import package
from local_runtime.embedders.minilm.export import rounded_model, write_atomically
from local_runtime.embedders.minilm.quantise import FULL_RANGE, HALF_RANGE, Floats
from local_runtime.embedders.minilm.seal import agreement
from local_runtime.embedders.minilm.session import MiniLMSession
from local_runtime.embedders.minilm.tokens import MiniLMTokens

TOO_LARGE = """
import resource, sys
from pathlib import Path
from local_runtime.embedders.errors import ExportFailed
from local_runtime.embedders.minilm.export import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]) / "model.onnx", bytes(2000))
except ExportFailed as failed:
    print(failed)
"""


@pytest.fixture(scope="module")
def tensors(int8: Embedder) -> dict[str, Floats]:
    return load_file(package.locate().weights)


@pytest.fixture(scope="module")
def tokens(int8: Embedder) -> MiniLMTokens:
    return MiniLMTokens(package.locate().tokenizer, 256)


def made(tensors: dict[str, Floats], tokens: MiniLMTokens, *ranges: int) -> MiniLMSession:
    return MiniLMSession(rounded_model(tensors, package.locate().shape(), tokens, "test", ranges), threads=1)


def test_where_sums_saturate_the_narrower_range_serves(tensors: dict[str, Floats], tokens: MiniLMTokens) -> None:
    full, narrow = made(tensors, tokens, FULL_RANGE), made(tensors, tokens, HALF_RANGE)
    rows = [tokens.ids("a text that the exporter has never seen")]

    assert float(full.run(rows)[0] @ narrow.run(rows)[0]) > 0.99
    assert agreement(full, tokens) > agreement(narrow, tokens)
    assert full.metadata["id"] != narrow.metadata["id"]


def test_a_range_that_disagrees_is_passed_over(tensors: dict[str, Floats], tokens: MiniLMTokens) -> None:
    assert made(tensors, tokens, 2, HALF_RANGE).metadata["id"] == made(tensors, tokens, HALF_RANGE).metadata["id"]


def test_a_model_that_cannot_be_proven_is_not_exported(tensors: dict[str, Floats], tokens: MiniLMTokens) -> None:
    with pytest.raises(ExportFailed, match="disagrees"):
        made(tensors, tokens, 2)


def test_another_version_has_another_id(tensors: dict[str, Floats], tokens: MiniLMTokens) -> None:
    shape = package.locate().shape()

    one, two = (MiniLMSession(rounded_model(tensors, shape, tokens, version), 1) for version in ("one", "two"))

    assert one.metadata["id"] != two.metadata["id"]
    np.testing.assert_array_equal(one.run([[101, 102]]), two.run([[101, 102]]))


def test_a_folder_is_made_and_holds_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "model.onnx"

    write_atomically(path, b"first")
    write_atomically(path, b"second")

    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ExportFailed, match=r"cannot write .* to .*file/models: Not a directory"):
        write_atomically(tmp_path / "file" / "models" / "model.onnx", b"content")


def test_a_write_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )

    assert "File too large; give a folder" in ran.stdout
    assert list(tmp_path.iterdir()) == []
