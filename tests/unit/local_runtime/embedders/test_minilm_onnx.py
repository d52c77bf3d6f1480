"""The exported int8 model: light to load, exported once, repaired when damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.minilm_onnx import load_onnx

TEXT = "an embedder writes its model once"
LOAD = """
import socket, sys
from pathlib import Path
def refuse(*_): raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = refuse
from local_runtime.embedders.minilm_onnx import load_onnx
embedder = load_onnx(Path(sys.argv[1]))
heavy = {"torch", "transformers", "sentence_transformers", "onnx", "safetensors"}
print(embedder.id, *sorted(heavy & set(sys.modules)))
"""


def loading(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LOAD, str(folder)], stdout=subprocess.PIPE, text=True)


def test_loading_an_exported_model_imports_nothing_heavy(exported: Embedder, export_dir: Path) -> None:
    assert loading(export_dir).communicate(timeout=120)[0].split() == [exported.id]


def test_two_processes_may_export_at_once(exported: Embedder, tmp_path: Path) -> None:
    both = [loading(tmp_path), loading(tmp_path)]

    printed = [process.communicate(timeout=120)[0] for process in both]

    assert [line.split()[0] for line in printed] == [exported.id, exported.id]
    assert not any("torch" in line for line in printed)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["empty", "cut short", "another model", "wrong weights", "not sealed"])
def test_a_damaged_file_is_exported_again(exported: Embedder, export_dir: Path, tmp_path: Path, damage: str) -> None:
    (whole,) = export_dir.iterdir()
    broken = tmp_path / whole.name
    broken.write_bytes(damaged(whole.read_bytes(), damage))

    repaired = load_onnx(tmp_path)

    assert repaired.id == exported.id
    np.testing.assert_array_equal(repaired.embed([TEXT]), exported.embed([TEXT]))


def damaged(content: bytes, damage: str) -> bytes:
    if damage == "empty":
        return b""
    if damage == "cut short":
        return content[: len(content) // 2]
    model = onnx.load_from_string(content)
    if damage == "another model":
        del model.graph.output[:]
    if damage == "not sealed":
        del model.metadata_props[:]
    if damage == "wrong weights":
        largest = max(model.graph.initializer, key=lambda constant: len(constant.raw_data))
        largest.raw_data = largest.raw_data[::-1]
    return bytes(model.SerializeToString())


def test_more_threads_give_the_same_vectors(exported: Embedder, export_dir: Path) -> None:
    two = load_onnx(export_dir, threads=2)

    assert float(two.embed([TEXT])[0] @ exported.embed([TEXT])[0]) > 0.9999
