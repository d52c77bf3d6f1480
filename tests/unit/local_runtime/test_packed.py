"""Quantised matrices that torch multiplies without unpacking them, against the same weights as numbers."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from local_runtime.kernels.abi import Q4, Q8
from local_runtime.kernels.packing import Groups, rounded
from local_runtime.models.gguf_source import GgufSource
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.packed import Packed, can_pack, packable, packed, plain, product
from tests.unit.local_runtime.tiny import save_tiny, segment
from tests.unit.local_runtime.tiny_gguf import write_gguf

pytestmark = pytest.mark.skipif(not can_pack(), reason="this processor or this torch has no product with 4 bits")
# Of bfloat16, whose numbers have 8 bits: of a weight's scale and middle, and of the sum.
TOLERANCE = 0.01


def values(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)
    return found


def said(groups: Groups) -> np.ndarray:
    """The weights in float32."""
    d = groups.d.astype(np.float32)[..., None]
    least = -128 * d if groups.m is None else groups.m.astype(np.float32)[..., None]
    numbers: np.ndarray = (groups.q.reshape(len(groups.q), -1, 32) * d + least).reshape(groups.q.shape)
    return numbers


def off(got: torch.Tensor, want: np.ndarray) -> float:
    """Root mean square difference as a share of what is wanted."""
    return float(np.sqrt(np.square(got.float().numpy() - want).mean() / np.square(want).mean()))


@pytest.mark.parametrize(("form", "parts"), [(Q4, 1), (Q8, 2)])
def test_a_packed_matrix_multiplies_as_its_numbers_do(form: int, parts: int) -> None:
    groups = rounded(values(48, 96), form)
    x = torch.from_numpy(values(5, 96, seed=1)).bfloat16()

    matrix = packed([groups])

    assert len(matrix.parts) == parts
    assert off(product(x, matrix), x.float().numpy() @ said(groups).T) < TOLERANCE


def test_matrices_of_two_forms_lie_below_each_other_with_rows_in_order_and_a_bias() -> None:
    one, two = rounded(values(32, 64), Q4), rounded(values(16, 64, seed=2), Q8)
    order = torch.from_numpy(np.random.default_rng(3).permutation(48))
    x, bias = torch.from_numpy(values(3, 64, seed=4)).bfloat16(), torch.from_numpy(values(1, 48, seed=5)[0]).bfloat16()

    got = product(x, packed([one, two], order), bias)

    whole = np.concatenate([said(one), said(two)])[order.numpy()]
    assert off(got, x.float().numpy() @ whole.T + bias.float().numpy()) < TOLERANCE


def test_a_row_is_the_same_alone_and_in_company() -> None:
    matrix, x = packed([rounded(values(64, 128), Q8)]), torch.from_numpy(values(9, 128, seed=1)).bfloat16()
    together = product(x, matrix)
    assert all(torch.equal(product(x[i : i + 1], matrix), together[i : i + 1]) for i in range(9))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_file_s_matrix_is_taken_as_it_is_rounded_there(kind: str, tmp_path: Path) -> None:
    number = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(tmp_path / "one.gguf"), "llama")
    writer.add_tensor("one", quantize(values(16, 64), number), raw_dtype=number)
    writer.add_tensor("two", values(16, 64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with GgufSource(tmp_path / "one.gguf") as source:
        groups, exact, none = source.groups("one"), source.read("one", torch.float32), source.groups("two")

    assert none is None
    assert groups is not None and np.allclose(said(groups), exact.numpy(), atol=1e-3)


@pytest.mark.parametrize(("kind", "name"), [("Q4_0", "llama wide"), ("Q8_0", "llama wide"), ("Q4_1", "gemma2 wide")])
def test_a_quantised_file_is_computed_packed_about_as_well_as_in_bfloat16(kind: str, name: str, tmp_path: Path) -> None:
    write_gguf(save_tiny(name, tmp_path), tmp_path / "tiny.gguf", quantisation=kind)
    ids = list(range(1, 30))
    exact, plainly, quick = (
        load_model(tmp_path / "tiny.gguf", LoadOptions(dtype=dtype, slots=1)).model
        for dtype in ("float32", "bfloat16", "torch")
    )

    want, near, got = (model.forward([segment(0, 0, ids, len(ids))]) for model in (exact, plainly, quick))

    weights = quick.weights  # type: ignore[attr-defined]
    assert all(isinstance(layer.qkv, Packed) and isinstance(layer.ffn.down, Packed) for layer in weights.layers)
    assert off(torch.from_numpy(got), want) < 1.5 * off(torch.from_numpy(near), want)


def test_rows_that_torch_does_not_pack_stay_numbers() -> None:
    assert not packable([rounded(values(20, 32), Q4)])
    assert packable([rounded(values(20, 32), Q4), rounded(values(12, 32), Q8)])


def test_what_wants_numbers_says_how_to_get_them() -> None:
    with pytest.raises(TypeError, match="dtype float32 or bfloat16"):
        plain(packed([rounded(values(16, 32), Q4)]))
