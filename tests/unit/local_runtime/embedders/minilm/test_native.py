"""MiniLM on the native kernels: the exact vectors nearly, the same ones in any company, under the same id."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.minilm import native as module
from local_runtime.embedders.minilm import package
from local_runtime.embedders.minilm.native import native
from local_runtime.embedders.minilm.tokens import MiniLMTokens
from local_runtime.embedders.minilm_onnx import MiniLM, load
from local_runtime.kernels.encoder import NativeEncoder
from local_runtime.kernels.library import Kernels, kernels
from tests.installed_embedders import installed_embedder
from tests.unit.local_runtime.embedders.test_minilm_agreement import TEXTS

LOAD = """
import sys
from pathlib import Path
from local_runtime.embedders.minilm_onnx import load
load(Path(sys.argv[1])).embed(["hello"])
print(*sorted({"torch", "transformers", "onnx", "onnxruntime"} & set(sys.modules)))
"""


def made(use: Kernels, threads: int = 1) -> NativeEncoder:
    files = package.locate()
    encoder = native(files, files.shape(), threads, use)
    assert encoder is not None
    return encoder


@pytest.fixture(scope="module")
def rows(exported: Embedder) -> list[list[int]]:
    files = package.locate()
    tokens = MiniLMTokens(files.tokenizer, files.shape().window)
    return [tokens.ids(text) for text in TEXTS]


@pytest.fixture(scope="module", params=[2, 3])
def encoder(request: pytest.FixtureRequest, exported: Embedder) -> NativeEncoder:
    use = kernels(request.param)
    if use is None or use.level != request.param:
        pytest.skip("this processor or this installation has no such kernels")
    return made(use)


def test_it_is_nearer_to_the_exact_vectors_than_the_exported_form(
    encoder: NativeEncoder, rows: list[list[int]], exported: Embedder, tmp_path: Path
) -> None:
    exact = installed_embedder("minilm_sentence_transformers", tmp_path).embed(TEXTS)

    ours, theirs = ((vectors * exact).sum(axis=1) for vectors in (encoder.vectors(rows), exported.embed(TEXTS)))

    assert ours.mean() > 0.9993 > theirs.mean()
    assert ours.min() > 0.996


def test_a_row_does_not_depend_on_its_company(encoder: NativeEncoder, rows: list[list[int]]) -> None:
    together, backwards = encoder.vectors(rows), encoder.vectors(rows[::-1])

    alone = np.concatenate([encoder.vectors([row]) for row in rows])

    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards[::-1])


def test_threads_change_no_vector(rows: list[list[int]]) -> None:
    use = kernels()
    if use is None:
        pytest.skip("no kernels")

    np.testing.assert_array_equal(made(use, threads=3).vectors(rows), made(use).vectors(rows))


def test_instruction_sets_agree_bit_for_bit(rows: list[list[int]]) -> None:
    older, newer = kernels(2), kernels(3)
    if older is None or newer is None or older.level == newer.level:
        pytest.skip("one instruction set only")

    np.testing.assert_array_equal(made(older).vectors(rows), made(newer).vectors(rows))


@pytest.mark.parametrize("row", [[], [101] * 257, [30522], [-1]], ids=["empty", "too long", "too large", "negative"])
def test_what_is_no_row_of_tokens_is_refused(encoder: NativeEncoder, row: list[int]) -> None:
    with pytest.raises(ValueError, match="token ids must be known and rows have 1 to 256"):
        encoder.vectors([[101, 102], row])


def test_both_forms_have_one_id_so_that_artifacts_stay_valid(exported: Embedder, tmp_path: Path) -> None:
    served = load(tmp_path)

    assert isinstance(served, MiniLM)
    assert served.id == exported.id
    assert np.mean((served.embed(TEXTS) * exported.embed(TEXTS)).sum(axis=1)) > 0.997


def test_without_kernels_the_exported_form_serves(
    exported: Embedder, export_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "kernels", lambda: None)

    np.testing.assert_array_equal(load(export_dir).embed(TEXTS[:3]), exported.embed(TEXTS[:3]))


def test_with_kernels_nothing_heavy_is_imported_and_nothing_written(exported: Embedder, tmp_path: Path) -> None:
    found = kernels()
    if found is None or found.level < module.FASTER_FROM:
        pytest.skip("the exported form serves here")

    ran = subprocess.run([sys.executable, "-c", LOAD, tmp_path], capture_output=True, text=True, check=True, timeout=60)

    assert ran.stdout.strip() == ""
    assert not list(tmp_path.iterdir())
