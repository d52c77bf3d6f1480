"""What of adapters' folders is refused, and how: typed, by name, before anything is computed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.adapters.load import load_adapter
from local_runtime.adapters.named import Named, named, parted
from local_runtime.base import BadWeights, GenerationError, UnsupportedModel, WeightsNotFound
from local_runtime.models.hf_config import spec_from_config
from local_runtime.models.spec import ModelSpec
from local_runtime.text.hf_tokenizer import read_json
from tests.unit.local_runtime.adapters.made import Tensors, save_adapter, save_gate, write_adapter
from tests.unit.local_runtime.tiny import save_tiny

Q = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
UP = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"
CONFIG: dict[str, Any] = {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"]}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSpec, Tensors, Path]:
    folder = tmp_path_factory.mktemp("sound")
    tensors = save_adapter(save_tiny("llama", folder / "base"), folder / "one", 1, targets=["q_proj", "up_proj"])
    return spec_from_config(read_json(folder / "base" / "config.json")), tensors, folder / "one"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("layers_to_transform", [0]),
        ("layer_replication", [[0, 2]]),
        ("target_parameters", ["experts"]),
        ("target_modules", ["q_proj", "embed_tokens"]),
        ("peft_type", "IA3"),
        ("init_lora_weights", "pissa_niter_4"),
        ("rank_pattern", {"(a+)+$": 2}),
    ],
)
def test_what_is_not_computed_is_refused_by_its_name(
    key: str, value: object, sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path
) -> None:
    spec, tensors, _ = sound
    write_adapter(tmp_path, tensors, CONFIG | {key: value})

    with pytest.raises(UnsupportedModel, match=key):
        load_adapter(f"+lora:{tmp_path}", spec)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({Q: torch.zeros(3, 32)}, r"q_proj.lora_A.weight' has shape \(3, 32\)"),
        ({UP: torch.zeros(16, 4)}, r"q_proj.lora_B.weight' has shape \(16, 4\)"),
        ({UP: None}, "q_proj.lora_B.weight' is missing"),
        ({Q: None, UP: None}, "none for layer 1"),
        ({Q: torch.full((4, 32), torch.nan)}, "not finite"),
        ({Q: torch.zeros(4, 32, dtype=torch.int32)}, "int32"),
        ({Q.replace("layers.1", "layers.7"): torch.zeros(4, 32)}, "layer 7"),
    ],
)
def test_tensors_that_do_not_fit_are_bad_weights(
    changes: dict[str, Any], words: str, sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path
) -> None:
    spec, tensors, _ = sound
    write_adapter(tmp_path, {name: one for name, one in (tensors | changes).items() if one is not None}, CONFIG)

    with pytest.raises(BadWeights, match=words):
        load_adapter(f"+lora:{tmp_path}", spec)


@pytest.mark.parametrize("name", ["base_model.model.lm_head.lora_A.weight", "x.lora_magnitude_vector"])
def test_a_tensor_that_nothing_is_done_with_is_refused(
    name: str, sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path
) -> None:
    spec, tensors, _ = sound
    write_adapter(tmp_path, tensors | {name: torch.zeros(4)}, CONFIG)

    with pytest.raises(UnsupportedModel, match=name):
        load_adapter(f"+lora:{tmp_path}", spec)


@pytest.mark.parametrize(
    "more", [{"r": 0}, {"r": 2**40}, {"r": "4"}, {"lora_alpha": None}, {"rank_pattern": {"q_proj": 2.5}}]
)
def test_sizes_that_are_none_are_bad_weights(
    more: dict[str, Any], sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path
) -> None:
    spec, tensors, _ = sound
    write_adapter(tmp_path, tensors, CONFIG | more)

    with pytest.raises(BadWeights):
        load_adapter(f"+lora:{tmp_path}", spec)


def test_experts_and_latent_attention_are_refused(sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path) -> None:
    _, _, folder = sound
    for family, words in (("mixtral", "experts"), ("deepseek_v2", "latent")):
        save_tiny(family, tmp_path / family)
        spec = spec_from_config(read_json(tmp_path / family / "config.json"))
        with pytest.raises(UnsupportedModel, match=words):
            load_adapter(f"+lora:{folder}", spec)


def test_what_is_not_there_is_told_with_the_file(sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path) -> None:
    spec, tensors, _ = sound
    with pytest.raises(WeightsNotFound, match=r"adapter_config.json is missing"):
        load_adapter(f"+lora:{tmp_path}", spec)
    write_adapter(tmp_path, tensors, CONFIG)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsNotFound, match=r"adapter_model.safetensors is missing"):
        load_adapter(f"+lora:{tmp_path}", spec)


@given(data=st.data())
def test_damaged_files_are_typed_errors(data: st.DataObject, sound: tuple[ModelSpec, Tensors, Path]) -> None:
    spec, _, folder = sound
    broken = folder.parent / "broken"
    broken.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (broken / name).write_bytes((folder / name).read_bytes())
    file = broken / data.draw(st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
    whole = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(GenerationError):
            load_adapter(f"+lora:{broken}", spec)
        return
    whole[data.draw(st.integers(0, min(len(whole), 2000) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(whole)
    with suppress(GenerationError):  # no other error
        load_adapter(f"+lora:{broken}", spec)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"adapters": {}}, "adapters must name"),
        ({"adapters": {"0": 3}}, "must be a string"),
        ({"top_k_lora": 3}, "top_k_lora 1 to 2"),
        ({"softmax_temperature": 0.0}, "above 0"),
        ({"xlora_depth": 2}, "xlora_depth is 2"),
        ({"xlora_depth": 2**50}, "between 1 and"),
        ({"layerwise_scalings": True}, r"asks for \(12, 32\)"),
    ],
)
def test_a_gate_that_does_not_fit_is_bad_weights(
    more: dict[str, Any], words: str, sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path
) -> None:
    spec, _, one = sound
    save_gate(tmp_path, [one, one], [(2, 32)], **more)

    with pytest.raises(BadWeights, match=words):
        load_adapter(f"+xlora:{tmp_path}", spec)


def test_a_gate_by_its_other_file_names_is_read(sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path) -> None:
    spec, _, one = sound
    save_gate(tmp_path, [one, one], [(2, 32)])
    (tmp_path / "adapter_config.json").rename(tmp_path / "xlora_config.json")
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "xlora_classifier.safetensors")

    adapter = load_adapter(f"+xlora:{tmp_path}", spec)

    assert adapter.gate is not None
    assert len(adapter.members) == 2


@pytest.mark.parametrize("more", [{"use_trainable_adapters": True}, {"scaling_pass_value": 0.5}, {"peft_type": "LORA"}])
def test_what_of_gates_is_not_computed_is_refused_by_its_name(
    more: dict[str, Any], sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path
) -> None:
    spec, _, one = sound
    save_gate(tmp_path, [one, one], [(2, 32)], **more)

    with pytest.raises(UnsupportedModel, match=next(iter(more))):
        load_adapter(f"+xlora:{tmp_path}", spec)


def test_names_of_adapters_are_parted_from_the_source() -> None:
    assert parted("bundled:smollm2") == ("bundled:smollm2", "")
    assert parted("bundled:a+lora:/b*0.5+lora:/c") == ("bundled:a", "+lora:/b*0.5+lora:/c")
    assert named("+lora:/b*0.5+lora:/c") == Named(((Path("/b"), 0.5), (Path("/c"), 1.0)))
    assert named("+xlora:/g") == Named(((Path("/g"), 1.0),), gated=True)


@pytest.mark.parametrize(
    "text", ["", "/a", "+lora:", "+lora:/a*x", "+lora:*2", "+lora:/a*nan", "+xlora:/a+lora:/b", "a+lora:/b"]
)
def test_other_grammar_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"lora|behind"):
        named(text)


def test_json_that_is_no_object_is_bad_weights(sound: tuple[ModelSpec, Tensors, Path], tmp_path: Path) -> None:
    spec, tensors, _ = sound
    write_adapter(tmp_path, tensors, CONFIG)
    (tmp_path / "adapter_config.json").write_text(json.dumps([1]))

    with pytest.raises(BadWeights, match="object"):
        load_adapter(f"+lora:{tmp_path}", spec)
