"""DeepSeek-V2's configurations, routes and memory; its logits are compared in test_transformer.py."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.feed_forward import routes
from local_runtime.models.hf_config import spec_from_config
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.metadata import Metadata
from local_runtime.models.native_weights import not_native
from local_runtime.models.rope import frequencies, yarn_magnitude
from local_runtime.models.spec import Moe, Rope, Yarn
from local_runtime.text.hf_tokenizer import read_json
from tests.unit.local_runtime.tiny import load_tiny, save_tiny, save_tokenizer, segment

# The shape of DeepSeek-V2-Lite as its config.json has it.
LITE: dict[str, Any] = {
    "model_type": "deepseek_v2",
    "vocab_size": 102400,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 163840,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "rope_theta": 10000,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
    },
}


def spec_of(**changes: Any) -> Any:
    return spec_from_config(Metadata(LITE | changes, "config.json"))


def test_the_lite_configuration_is_read() -> None:
    spec = spec_of()
    assert [layer.sparse for layer in spec.layers] == [False] + [True] * 26
    assert (spec.moe.shared, spec.moe.active, spec.moe.scale, spec.moe.normalise) == (2816, 6, 1.0, False)
    assert (spec.latent.query_rank, spec.latent.rank, spec.rope.interleaved) == (0, 512, True)
    assert spec.rope.scaling == Yarn(40.0, 4096, 32.0, 1.0, 1.0, True)
    assert spec.attn_scale == pytest.approx(192**-0.5 * (0.1 * 0.707 * math.log(40) + 1) ** 2)


def test_a_token_keeps_one_latent_and_no_keys_of_heads() -> None:
    assert spec_of().kept_elements == 512 + 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topk_method": "noaux_tc"}, "noaux_tc"),
        ({"scoring_func": "sigmoid"}, "sigmoid"),
        ({"moe_layer_freq": 2}, "moe_layer_freq"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
    ],
)
def test_what_is_not_computed_is_unsupported_and_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        spec_of(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kv_lora_rank": 0}, "rank"),
        ({"v_head_dim": 2**40}, "value"),
        ({"q_lora_rank": 2**40}, "query_rank"),
        ({"qk_rope_head_dim": 63}, "odd"),
        ({"num_experts_per_tok": None}, "num_experts_per_tok"),
        ({"routed_scaling_factor": 0}, "routed_scaling_factor"),
        ({"topk_method": "group_limited_greedy", "n_group": 5, "topk_group": 2}, "groups"),
        ({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 5}, "groups"),
        ({"topk_method": "group_limited_greedy", "n_group": 32, "topk_group": 2}, "active experts"),
        ({"topk_method": "group_limited_greedy", "n_group": 0, "topk_group": 0}, "groups"),
        ({"topk_method": "group_limited_greedy", "n_group": None}, "n_group"),
        ({"rope_scaling": {"type": "yarn", "factor": -1}}, "factor"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2}}, "beta_slow"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "attention_factor": 0}}, "attention factor"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 0}}, "original context"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}, "rope_theta": 1}, "theta"),
    ],
)
def test_what_cannot_be_is_bad_weights_and_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        spec_of(**changes)


def test_what_is_left_out_takes_the_family_s_default_and_a_null_means_none() -> None:
    few = {key: value for key, value in LITE.items() if key not in ("q_lora_rank", "n_shared_experts")}
    spec = spec_from_config(Metadata(few, "config.json"))
    assert spec.latent is not None and spec.moe is not None
    assert (spec.latent.query_rank, spec.moe.shared) == (1536, 2 * 1408)
    assert spec_of(n_shared_experts=None).moe.shared == 0


def test_weights_that_are_normalised_are_not_scaled_as_in_deepseek_s_own_code() -> None:
    scaled = spec_of(routed_scaling_factor=16.0).moe
    assert (scaled.scale, scaled.normalise) == (16.0, False)
    normalised = spec_of(routed_scaling_factor=16.0, norm_topk_prob=True).moe
    weights, _ = routes(normalised, torch.randn(5, 64))
    assert torch.allclose(weights.sum(dim=1), torch.ones(5))
    alone = spec_of(routed_scaling_factor=16.0, norm_topk_prob=True, num_experts_per_tok=1).moe
    assert (alone.scale, alone.normalise) == (16.0, False)


def test_only_experts_of_the_groups_with_the_likeliest_ones_are_chosen() -> None:
    moe = Moe(experts=6, active=3, intermediate=8, normalise=False, groups=3, active_groups=2)
    scores = torch.tensor([[5.0, -9.0, 4.0, 3.9, 3.0, 3.0]])
    weights, chosen = routes(moe, scores)
    assert sorted(chosen[0].tolist()) == [0, 2, 3]
    assert torch.equal(weights[0], scores.softmax(dim=1)[0, chosen[0]])


def test_yarn_keeps_fast_pairs_and_slows_slow_ones() -> None:
    plain = frequencies(Rope(10000.0, interleaved=True), 64)
    slowed = frequencies(Rope(10000.0, interleaved=True, scaling=Yarn(40.0, 4096, 32.0, 1.0, 1.0, True)), 64)
    assert slowed[0] == plain[0] and slowed[-1] == pytest.approx(plain[-1] / 40)
    assert (np.diff(slowed / plain) <= 1e-6).all()
    assert yarn_magnitude(0.5) == 1.0 and yarn_magnitude(math.e) == pytest.approx(1.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny("deepseek_v2, by groups", tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def test_the_native_kernels_refuse_it_with_the_reason_and_torch_takes_it(folder: Path) -> None:
    assert "latent" in (not_native(spec_of()) or "")
    with pytest.raises(ValueError, match=r"native kernels: .*(latent|compiler|AVX)"):
        load_model(folder, LoadOptions("int8", slots=1))
    assert type(load_model(folder, LoadOptions("auto", slots=1)).model).__name__ == "Transformer"


def test_latents_take_the_memory_that_is_said(folder: Path) -> None:
    model: Any = load_model(folder, LoadOptions("float32", slots=2)).model
    kept = [layer.numel() for layer in model.cache._layers]
    assert kept == [model.page_count * 16 * model.spec.kept_elements] * 3
    assert model.spec.kept_elements == 12 + 6


def test_a_policy_over_keys_and_values_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="latent"):
        load_model(folder, LoadOptions("float32", slots=1, kv_policy="window:20"))


def test_bfloat16_stays_near_float32(folder: Path) -> None:
    ids = list(range(30))
    exact = load_tiny(folder).forward([segment(0, 0, ids, 1)])[0]
    rough = load_tiny(folder, dtype=torch.bfloat16).forward([segment(0, 0, ids, 1)])[0]
    assert np.abs(exact - rough).mean() < 0.1 * np.abs(exact).mean()


@pytest.mark.parametrize("name", ["kv_a_layernorm.weight", "kv_b_proj.weight", "q_a_layernorm.weight", "q_a_proj.bias"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    del state[f"model.layers.1.self_attn.{name}"]
    save_file(state, path)
    with pytest.raises(BadWeights, match=rf"layers\.1\.self_attn\.{name}.* missing"):
        load_tiny(folder)


def test_a_latent_of_another_width_than_the_configuration_says_is_named(folder: Path) -> None:
    config = dict(read_json(folder / "config.json").values) | {"kv_lora_rank": 10}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadWeights, match=r"kv_a_layernorm|kv_a_proj|kv_b_proj"):
        load_tiny(folder)


def test_a_model_without_shared_experts_is_read(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: one for name, one in load_file(path).items() if "shared_experts" not in name}, path)
    config = dict(read_json(folder / "config.json").values) | {"n_shared_experts": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert np.isfinite(load_tiny(folder).forward([segment(0, 0, [1, 2, 3], 1)])).all()
