"""Our transformer against Hugging Face's, from files that Hugging Face wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from local_runtime.base import BadWeights
from local_runtime.models.transformer import Transformer
from tests.unit.local_runtime.tiny import FAMILIES, load_tiny, save_tiny, segment

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Transformer]:
    folder = tmp_path_factory.mktemp("tiny")
    reference = save_tiny(request.param, folder)
    return reference, load_tiny(folder)


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 256, count)]


def expected(reference: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return np.asarray(reference(torch.tensor([ids])).logits[0].numpy())


def test_prefill_logits_equal_hugging_face(pair: tuple[Any, Transformer]) -> None:
    reference, ours = pair
    ids = tokens(40)
    got = ours.forward([segment(0, 0, ids, len(ids))])
    assert np.abs(got - expected(reference, ids)).max() < TOLERANCE


def test_stepwise_decoding_equals_hugging_face(pair: tuple[Any, Transformer]) -> None:
    reference, ours = pair
    ids = tokens(24, seed=1)
    rows = [ours.forward([segment(1, 0, ids[:5], 1)])]
    rows += [ours.forward([segment(1, at, ids[at : at + 1], 1)]) for at in range(5, len(ids))]
    assert np.abs(np.concatenate(rows) - expected(reference, ids)[4:]).max() < TOLERANCE


def test_a_ragged_batch_of_prefill_and_decode_equals_each_alone(pair: tuple[Any, Transformer]) -> None:
    reference, ours = pair
    short, long, fresh = tokens(7, seed=2), tokens(33, seed=3), tokens(19, seed=4)
    ours.forward([segment(0, 0, short[:-1]), segment(2, 0, long[:-1])])
    got = ours.forward([segment(2, 32, long[-1:], 1), segment(3, 0, fresh, 2), segment(0, 6, short[-1:], 1)])
    want = [expected(reference, long)[-1:], expected(reference, fresh)[-2:], expected(reference, short)[-1:]]
    assert np.abs(got - np.concatenate(want)).max() < TOLERANCE


def test_a_prompt_in_chunks_equals_the_whole(pair: tuple[Any, Transformer]) -> None:
    reference, ours = pair
    ids = tokens(37, seed=5)
    chunks = [ours.forward([segment(1, at, ids[at : at + 8], len(ids[at : at + 8]))]) for at in range(0, 37, 8)]
    assert np.abs(np.concatenate(chunks) - expected(reference, ids)).max() < TOLERANCE


def test_experts_fused_into_three_dimensions_load_too(tmp_path: Path) -> None:
    reference = save_tiny("qwen3_moe raw weights", tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(fuse_experts(load_file(path)), path)
    got = load_tiny(tmp_path).forward([segment(0, 0, tokens(12), 12)])
    assert np.abs(got - expected(reference, tokens(12))).max() < TOLERANCE


def fuse_experts(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    fused = {name: tensor for name, tensor in state.items() if ".experts." not in name}
    for layer in range(3):
        prefix = f"model.layers.{layer}.mlp.experts."
        parts = {
            kind: torch.stack([state[f"{prefix}{e}.{kind}_proj.weight"] for e in range(4)])
            for kind in ("gate", "up", "down")
        }
        fused[prefix + "gate_up_proj"] = torch.cat([parts["gate"], parts["up"]], dim=1)
        fused[prefix + "down_proj"] = parts["down"]
    return fused


def test_weights_split_over_several_files_load_too(tmp_path: Path) -> None:
    reference = save_tiny("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / "model.safetensors").exists()
    got = load_tiny(tmp_path).forward([segment(0, 0, tokens(6), 1)])
    assert np.abs(got - expected(reference, tokens(6))[-1:]).max() < TOLERANCE


def test_bfloat16_stays_near_float32_and_ranks_the_best_in_float32(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    exact = load_tiny(tmp_path).forward([segment(0, 0, tokens(9), 1)])[0]
    rough = load_tiny(tmp_path, dtype=torch.bfloat16).forward([segment(0, 0, tokens(9), 1)])[0]
    assert np.abs(exact - rough).mean() < 0.05 * np.abs(exact).mean()
    best = rough[rough.argsort()[-8:]]
    assert not np.array_equal(best, torch.from_numpy(best).bfloat16().float().numpy())


def test_a_missing_tensor_is_named_before_anything_is_read(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    del state["model.layers.2.mlp.up_proj.weight"]
    save_file(state, path)
    with pytest.raises(BadWeights, match=r"model\.layers\.2\.mlp\.up_proj\.weight.* missing"):
        load_tiny(tmp_path)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["model.norm.weight"] = torch.ones(31)
    save_file(state, path)
    with pytest.raises(BadWeights, match=r"model\.norm\.weight.*\(31,\).*\(32,\)"):
        load_tiny(tmp_path)
