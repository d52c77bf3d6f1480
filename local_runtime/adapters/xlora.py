"""X-LoRA as PEFT writes it: adapter_config.json with the members' folders, the gate in adapter_model.safetensors.

The two files may be called xlora_config.json and xlora_classifier.safetensors too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from local_runtime.adapters.base import TARGETS, Adapter, Floats, Gate, Member, Place
from local_runtime.adapters.folder import CONFIG, WEIGHTS, floats, read_member
from local_runtime.base import BadWeights, UnsupportedModel, WeightsNotFound
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import ModelSpec
from local_runtime.text.hf_tokenizer import read_json

if TYPE_CHECKING:
    from local_runtime.models.safetensors_source import SafetensorsSource

_PAIRS: Final = ((CONFIG, WEIGHTS), ("xlora_config.json", "xlora_classifier.safetensors"))
_NAME: Final = re.compile(r"(?:.*\.)?layers\.(\d{1,3})\.(weight|bias)")
MOST_MEMBERS: Final = 64
MOST_DEPTH: Final = 16


def read_xlora(folder: Path, spec: ModelSpec) -> Adapter:
    """A gate and what it mixes: WeightsNotFound, UnsupportedModel or BadWeights."""
    from local_runtime.models.safetensors_source import SafetensorsSource

    pair = next((pair for pair in _PAIRS if all((folder / file).is_file() for file in pair)), None)
    if pair is None:
        raise WeightsNotFound(f"{folder}: neither {' and '.join(_PAIRS[0])} nor {' and '.join(_PAIRS[1])} are there")
    config = read_json(folder / pair[0])
    _check(config)
    members = tuple(read_member(one, spec) for one in _folders(config, folder))
    with SafetensorsSource(folder, pair[1]) as source:
        return Adapter(members, _gate(config, spec, source, members))


def _check(config: Metadata) -> None:
    if (kind := config.string("peft_type", "XLORA")) != "XLORA":
        raise UnsupportedModel(f"{config.where}: peft_type {kind!r} has no gate, take +lora:")
    if config.flag("use_trainable_adapters", False):
        raise UnsupportedModel(f"{config.where}: use_trainable_adapters is not computed")
    if config.number("scaling_pass_value", 0.0) != 0.0:
        raise UnsupportedModel(f"{config.where}: scaling_pass_value other than 0 is not computed")


def _folders(config: Metadata, folder: Path) -> list[Path]:
    """Of the members, in order; a relative one lies beside the gate's."""
    given = config.child("adapters")
    if not 0 < len(given.values) <= MOST_MEMBERS:
        raise BadWeights(f"{config.where}: adapters must name 1 to {MOST_MEMBERS} folders")
    return [folder / given.string(name) for name in given.values]


def _gate(config: Metadata, spec: ModelSpec, source: SafetensorsSource, members: tuple[Member, ...]) -> Gate:
    places = sorted({place for member in members for place in member.pairs}, key=_in_order)
    apart = config.flag("layerwise_scalings", False)
    most = config.integer("top_k_lora") if config.has("top_k_lora") else None
    temperature = config.number("softmax_temperature", 1.0)
    if temperature <= 0 or (most is not None and not 0 < most <= len(members)):
        raise BadWeights(f"{config.where}: softmax_temperature must be above 0, top_k_lora 1 to {len(members)}")
    return Gate(
        layers=_layers(config, spec, source, len(members) * (len(places) if apart else 1)),
        places=tuple(places),
        apart=apart,
        softmax=config.flag("enable_softmax", True),
        temperature=temperature,
        most=most,
        normalise=config.flag("enable_softmax_topk", False),
        scale=config.number("global_scaling_weight", 1.0),
    )


def _in_order(place: Place) -> tuple[int, int]:
    return place[0], TARGETS.index(place[1])


def _layers(
    config: Metadata, spec: ModelSpec, source: SafetensorsSource, wide: int
) -> tuple[tuple[Floats, Floats], ...]:
    """Weights and biases in order; every shape is checked first. Numbers in names skip what has no weights."""
    depth, inside = config.integer("xlora_depth", 1), config.integer("xlora_size", 2048)
    if not 0 < depth <= MOST_DEPTH:
        raise BadWeights(f"{config.where}: xlora_depth must lie between 1 and {MOST_DEPTH}")
    found = {(int(match[1]), match[2]): name for name in source.names() if (match := _NAME.fullmatch(name))}
    numbers = sorted({number for number, _ in found})
    widths = [spec.hidden, *[inside] * (depth - 1), wide]
    if len(numbers) != depth or len(found) != len(source.names()):
        raise BadWeights(f"{config.where}: xlora_depth is {depth}, the gate's file holds {sorted(source.names())[:6]}")
    names = []
    for at, number in enumerate(numbers):
        shapes = {"weight": (widths[at + 1], widths[at]), "bias": (widths[at + 1],)}
        for kind, shape in shapes.items():
            name = found.get((number, kind))
            if name is None or source.shape(name) != shape:
                told = "missing" if name is None else str(source.shape(name))
                raise BadWeights(f"the gate's {kind} {number} is {told}, the configuration asks for {shape}")
        names.append((found[number, "weight"], found[number, "bias"]))
    return tuple((np.ascontiguousarray(floats(source, one)), floats(source, two)) for one, two in names)
