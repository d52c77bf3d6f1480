"""A small random encoder on the kernels against the same in float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from local_runtime.base import GenerationError
from local_runtime.kernels.encoder import EncoderShape, NativeEncoder
from local_runtime.kernels.library import Kernels, kernels
from local_runtime.kernels.packing import Floats

Doubles = npt.NDArray[np.float64]
ROWS = [[5], [1, 2, 3], list(range(20)), [7] * 33, list(range(40, 0, -1))]
NORMS = (
    "embeddings.LayerNorm",
    *(f"encoder.layer.{i}.{n}.LayerNorm" for i in (0, 1) for n in ("attention.output", "output")),
)


@pytest.fixture(params=[2, 3])
def use(request: pytest.FixtureRequest) -> Kernels:
    found = kernels(request.param)
    if found is None or found.level != request.param:
        pytest.skip("this processor or this installation has no such kernels")
    return found


def tensors_of(hidden: int, inner: int) -> dict[str, Floats]:
    chance = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {f"{name}.{part}": (hidden,) for name in NORMS for part in ("weight", "bias")}
    for name, rows in (("word", 50), ("position", 48), ("token_type", 2)):
        shapes[f"embeddings.{name}_embeddings.weight"] = (rows, hidden)
    for layer in (0, 1):
        name = f"encoder.layer.{layer}"
        sizes = {f"{name}.attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        sizes |= {f"{name}.attention.output.dense": (hidden, hidden), f"{name}.intermediate.dense": (inner, hidden)}
        for dense, (rows, cols) in (sizes | {f"{name}.output.dense": (hidden, inner)}).items():
            shapes |= {f"{dense}.weight": (rows, cols), f"{dense}.bias": (rows,)}
    return {
        name: chance.standard_normal(size).astype(np.float32) * (0.2 if len(size) > 1 else 1)
        for name, size in shapes.items()
    }


def reference(t: dict[str, Floats], row: list[int], heads: int) -> Doubles:
    """BERT as its paper has it."""
    x = t["embeddings.word_embeddings.weight"][row] + t["embeddings.position_embeddings.weight"][: len(row)]
    x = normed(t, "embeddings.LayerNorm", x.astype(np.float64) + t["embeddings.token_type_embeddings.weight"][0])
    for layer in (0, 1):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            dense(t, f"{name}.attention.self.{part}", x).reshape(len(row), heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
        mixed = (weights / weights.sum(axis=-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(row), -1)
        x = normed(t, f"{name}.attention.output.LayerNorm", x + dense(t, f"{name}.attention.output.dense", mixed))
        wide = dense(t, f"{name}.intermediate.dense", x)
        wide = wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))) / 2
        x = normed(t, f"{name}.output.LayerNorm", x + dense(t, f"{name}.output.dense", wide))
    pooled: Doubles = x.mean(axis=0)
    return pooled / np.linalg.norm(pooled)


def dense(t: dict[str, Floats], name: str, x: Doubles) -> Doubles:
    found: Doubles = x @ t[f"{name}.weight"].astype(np.float64).T + t[f"{name}.bias"]
    return found


def normed(t: dict[str, Floats], name: str, x: Doubles) -> Doubles:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled: Doubles = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]


@pytest.mark.parametrize(("hidden", "heads", "inner"), [(64, 2, 96), (96, 3, 256), (128, 2, 64)])
def test_vectors_are_those_of_float64_but_for_rounding(use: Kernels, hidden: int, heads: int, inner: int) -> None:
    tensors = tensors_of(hidden, inner)
    exact = np.stack([reference(tensors, row, heads) for row in ROWS])

    fine, coarse = (
        NativeEncoder(use, tensors, EncoderShape(2, heads, hidden, 1e-12, 48, bits), 1).vectors(ROWS)
        for bits in (True, False)
    )

    assert np.abs(fine - exact).max() < 0.004
    assert np.abs(coarse - exact).max() < 0.008
    assert np.abs(np.linalg.norm(coarse, axis=1) - 1).max() < 1e-6


def test_more_tokens_than_a_call_takes_are_done_in_several(use: Kernels) -> None:
    encoder = NativeEncoder(use, tensors_of(64, 96), EncoderShape(2, 2, 64, 1e-12, 48, False), 2)
    many = ROWS * 20

    np.testing.assert_array_equal(encoder.vectors(many), np.tile(encoder.vectors(ROWS), (20, 1)))


def test_sizes_that_the_kernels_do_not_know_are_refused(use: Kernels) -> None:
    with pytest.raises(GenerationError, match="sizes not known"):
        NativeEncoder(use, tensors_of(64, 96), EncoderShape(2, 4, 64, 1e-12, 48, False), 1)
