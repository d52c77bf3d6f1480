"""What GGUF metadata says of the newer architectures, and typed errors for what it can't say."""

from __future__ import annotations

from typing import Any

import pytest

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.gguf_metadata import spec_from_gguf
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import ModelSpec

SIZES: dict[str, Any] = {
    "embedding_length": 64,
    "block_count": 7,
    "attention.head_count": 4,
    "feed_forward_length": 96,
    "context_length": 128,
    "attention.layer_norm_rms_epsilon": 1e-6,
}


def spec_of(arch: str, changes: dict[str, Any], tensors: tuple[str, ...] = ()) -> ModelSpec:
    values = {f"{arch}.{key}": value for key, value in (SIZES | changes).items()}
    named = {"general.architecture": arch, "tokenizer.ggml.tokens": ["a", "b"]}
    return spec_from_gguf(Metadata(values | named, "x.gguf"), tensors)


def test_gemmas_take_what_their_files_leave_out_from_the_family() -> None:
    second, third = spec_of("gemma2", {}), spec_of("gemma3", {"attention.sliding_window": 9})
    assert [layer.window for layer in second.layers] == [4096, None] * 3 + [4096]
    assert (second.attn_cap, second.logit_cap, second.embed_scale, second.norm_offset) == (50.0, 30.0, 8.0, 0.0)
    assert [layer.window for layer in third.layers] == [9] * 5 + [None, 9]
    assert [layer.second_rope for layer in third.layers] == [True] * 5 + [False, True]
    assert third.second_rope is not None and third.second_rope.theta == 10000.0


@pytest.mark.parametrize(("arch", "layers"), [("gemma2", 46), ("gemma3", 62)])
def test_the_largest_gemma_scales_scores_by_hidden_over_heads(arch: str, layers: int) -> None:
    key = {"block_count": layers, "attention.key_length": 32}
    assert spec_of(arch, key).score_scale == 1 / 4
    assert spec_of(arch, key | {"block_count": 26}).score_scale == 32**-0.5


def test_the_pattern_of_windows_may_be_a_number() -> None:
    pattern = {"attention.sliding_window": 9, "attention.sliding_window_pattern": 3}
    assert [layer.window for layer in spec_of("gemma3", pattern).layers] == [9, 9, None, 9, 9, None, 9]


def test_a_shared_expert_without_a_width_of_its_own_is_as_wide_as_the_feed_forward() -> None:
    moe = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 24}
    found = spec_of("qwen2moe", moe).moe
    assert found is not None and (found.shared, found.shared_gate, found.normalise) == (96, True, False)


@pytest.mark.parametrize(
    ("arch", "changes", "words"),
    [
        ("gemma3", {"attention.sliding_window": 4, "attention.sliding_window_pattern": [True]}, "7 layers"),
        ("gemma3", {"attention.sliding_window": 4, "attention.sliding_window_pattern": [1] * 7}, "true and false"),
        ("gemma3", {"attention.sliding_window": 2**40}, "window"),
        ("gemma2", {"attn_logit_softcapping": -3.0}, "attn_cap"),
        ("phi3", {"rope.dimension_count": 18}, "rotary"),
        ("phi3", {"rope.dimension_count": 7}, "odd"),
    ],
)
def test_what_can_not_be_is_bad_weights_and_named(arch: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        spec_of(arch, changes)


def test_what_is_not_computed_is_unsupported_and_named() -> None:
    with pytest.raises(UnsupportedModel, match="longrope"):
        spec_of("phi3", {}, ("rope_factors_long.weight",))
    with pytest.raises(UnsupportedModel, match="partial"):
        spec_of("gemma", {"rope.dimension_count": 8})
    with pytest.raises(UnsupportedModel, match="deepseek2"):
        spec_of("deepseek2", {})
