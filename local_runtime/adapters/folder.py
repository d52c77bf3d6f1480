"""LoRA adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors.

What the configuration asks for beyond plain LoRA is refused by its name; shapes are checked before tensors are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from local_runtime.adapters.base import TARGETS, Floats, Member, Pair, Place
from local_runtime.adapters.shapes import has, shapes_of
from local_runtime.base import BadWeights, UnsupportedModel, WeightsNotFound
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import ModelSpec
from local_runtime.text.hf_tokenizer import read_json

if TYPE_CHECKING:
    from local_runtime.models.safetensors_source import SafetensorsSource

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
MOST_RANK: Final = 1024
# Refused unless absent, false or empty.
_REFUSED: Final = (
    *("use_dora", "use_qalora", "lora_bias", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("layer_replication", "fan_in_fan_out", "exclude_modules", "target_parameters", "trainable_token_indices"),
    *("alora_invocation_tokens", "arrow_config", "use_bdlora", "megatron_config"),
)
# These change the base's own weights when training begins.
_CHANGING: Final = ("pissa", "olora", "corda", "loftq")
_NAME: Final = re.compile(r"base_model\.model\.model\.layers\.(\d{1,6})\.(\w+)\.(\w+)\.lora_([AB])\.weight")
_BLOCKS: Final = {target: "self_attn" if target in TARGETS[:4] else "mlp" for target in TARGETS}


def read_member(folder: Path, spec: ModelSpec, weight: float = 1.0) -> Member:
    """The adapter in a folder, for a model of this spec: WeightsNotFound, UnsupportedModel or BadWeights."""
    from local_runtime.models.safetensors_source import SafetensorsSource

    config = read_json(folder / CONFIG)
    if not config.values:
        raise WeightsNotFound(f"{folder}: {CONFIG} is missing")
    if not (folder / WEIGHTS).is_file():
        raise WeightsNotFound(f"{folder}: {WEIGHTS} is missing")
    _refuse(config)
    with SafetensorsSource(folder, WEIGHTS) as source:
        planned = list(_planned(config, spec, source))
        return Member({one.place: one.read(source) for one in planned}, weight)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A pair whose shapes are known to fit."""

    place: Place
    names: tuple[str, str]
    scale: float

    def read(self, source: SafetensorsSource) -> Pair:
        down, up = (floats(source, name) for name in self.names)
        return Pair(down, up * np.float32(self.scale))


def _refuse(config: Metadata) -> None:
    if (kind := config.string("peft_type", "LORA")) != "LORA":
        raise UnsupportedModel(f"{config.where}: peft_type {kind!r} is not computed, only LORA")
    for key in _REFUSED:
        if config.values.get(key):
            raise UnsupportedModel(f"{config.where}: {key} is not computed")
    if (bias := config.string("bias", "none")) != "none":
        raise UnsupportedModel(f"{config.where}: bias {bias!r} is not computed, only none")
    first = config.values.get("init_lora_weights")
    if isinstance(first, str) and first.startswith(_CHANGING):
        raise UnsupportedModel(
            f"{config.where}: init_lora_weights {first!r} changes the base; convert it to plain LoRA"
        )
    targets = config.values.get("target_modules")
    for target in targets if isinstance(targets, list) else []:
        if not isinstance(target, str) or target.rsplit(".", 1)[-1] not in TARGETS:
            raise UnsupportedModel(f"{config.where}: target_modules {target!r} is none of {', '.join(TARGETS)}")


def _planned(config: Metadata, spec: ModelSpec, source: SafetensorsSource) -> Iterator[_Planned]:
    """Every pair of the file in the model's order; nothing is read yet."""
    shapes, places = shapes_of(spec), sorted({_place(name, spec) for name in source.names()}, key=_in_order)
    if not places:
        raise BadWeights(f"{WEIGHTS} holds no tensor")
    _check_complete(config, spec, set(places))
    for layer, target in places:
        module = f"model.layers.{layer}.{_BLOCKS[target]}.{target}"
        rank = _rank(config, module)
        rows, cols = shapes[target]
        called = f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"
        for name, shape in zip(called, ((rank, cols), (rows, rank)), strict=True):
            if name not in source.names():
                raise BadWeights(f"the tensor {name!r} is missing")
            if (found := source.shape(name)) != shape:
                raise BadWeights(f"the tensor {name!r} has shape {found}, model and adapter ask for {shape}")
        alpha = _of_pattern(config.child("alpha_pattern"), module)
        alpha = config.number("lora_alpha") if alpha is None else alpha
        yield _Planned((layer, target), called, alpha / (sqrt(rank) if config.flag("use_rslora", False) else rank))


def _in_order(place: Place) -> tuple[int, int]:
    return place[0], TARGETS.index(place[1])


def _place(name: str, spec: ModelSpec) -> Place:
    """Layer and projection of a tensor; UnsupportedModel where it is nothing that is computed."""
    found = _NAME.fullmatch(name)
    if found is None or _BLOCKS.get(found[3]) != found[2]:
        raise UnsupportedModel(f"{WEIGHTS}: the tensor {name[:120]!r} is nothing that is computed")
    layer, target = int(found[1]), found[3]
    if layer >= len(spec.layers):
        raise BadWeights(f"{WEIGHTS}: the tensor {name!r} is of layer {layer}, the model has {len(spec.layers)}")
    if not has(spec, layer, target):
        raise UnsupportedModel(f"{WEIGHTS}: the tensor {name!r} is of a mixture's experts, for which none is computed")
    return layer, target


def _check_complete(config: Metadata, spec: ModelSpec, places: set[Place]) -> None:
    """A projection that is named is changed in every layer that has it."""
    targets = config.values.get("target_modules")
    for target in targets if isinstance(targets, list) else []:
        for layer in range(len(spec.layers)):
            if target in TARGETS and has(spec, layer, target) and (layer, target) not in places:
                raise BadWeights(f"{WEIGHTS}: target_modules names {target}, but there is none for layer {layer}")


def _rank(config: Metadata, module: str) -> int:
    given = _of_pattern(config.child("rank_pattern"), module)
    rank = config.integer("r") if given is None else int(given)
    if not 0 < rank <= MOST_RANK or rank != (rank if given is None else given):
        raise BadWeights(f"{config.where}: the rank of {module} is {rank}, not between 1 and {MOST_RANK}")
    return rank


def _of_pattern(patterns: Metadata, module: str) -> float | None:
    """The value of the first key that is the module's name or its end. Keys that are more than names are refused."""
    for key in patterns.values:
        plain = key.removeprefix("^")
        if not re.fullmatch(r"[\w.]+", plain):
            raise UnsupportedModel(f"{patterns.where}: {key[:80]!r} is an expression, only names are read")
        if module == plain or (key == plain and module.endswith(f".{plain}")):
            return patterns.number(key)
    return None


def floats(source: SafetensorsSource, name: str) -> Floats:
    """A tensor in float32; BadWeights where it holds what is no number."""
    import torch

    found: Floats = source.read(name, torch.float32).numpy()
    if not np.isfinite(found).all():
        raise BadWeights(f"the tensor {name!r} holds numbers that are not finite")
    return found
