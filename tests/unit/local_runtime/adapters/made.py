"""Random adapters in PEFT's form, and what a model with merged weights answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from local_runtime.adapters.base import TARGETS

Tensors = dict[str, torch.Tensor]
Logits = npt.NDArray[np.float32]
IDS = [7, 3, 91, 200, 15, 64, 2, 77, 180, 33, 8, 121, 55, 6, 90, 13, 14, 209, 44, 5]


def linears(model: Any, targets: Sequence[str] = TARGETS) -> dict[str, torch.nn.Linear]:
    """The projections of Hugging Face's model that an adapter may change, by their names."""
    modules = model.named_modules()
    return {name: one for name, one in modules if name.rsplit(".", 1)[-1] in targets and hasattr(one, "weight")}


def save_adapter(
    model: Any, folder: Path, seed: int, *, rank: int = 4, targets: Sequence[str] = TARGETS, **more: Any
) -> Tensors:
    """Save a random adapter for Hugging Face's model; its tensors."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, one in linears(model, targets).items():
        rows, cols = one.weight.shape
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(rank, cols, generator=random) / cols**0.5
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(rows, rank, generator=random) / rank**0.5
    write_adapter(folder, tensors, {"r": rank, "lora_alpha": rank, "target_modules": list(targets)} | more)
    return tensors


def write_adapter(folder: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """adapter_config.json and adapter_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "bias": "none"} | dict(config)))
    save_file(dict(tensors), folder / "adapter_model.safetensors")


def merged_logits(model: Any, parts: Sequence[tuple[Tensors, float]], ids: Sequence[int] = IDS) -> Logits:
    """Hugging Face's logits [tokens, vocabulary] with W + scale * B A in place of W; W is put back."""
    before = {name: one.weight.detach().clone() for name, one in linears(model).items()}
    with torch.no_grad():
        for tensors, scale in parts:
            for name, one in linears(model).items():
                down = tensors.get(f"base_model.model.{name}.lora_A.weight")
                if down is not None:
                    one.weight += scale * tensors[f"base_model.model.{name}.lora_B.weight"] @ down
        logits: Logits = model(torch.tensor([list(ids)])).logits[0].numpy()
        for name, one in linears(model).items():
            one.weight.copy_(before[name])
    return logits


def save_gate(folder: Path, members: Sequence[Path], shapes: Sequence[tuple[int, int]], **more: Any) -> Tensors:
    """Save a random gate of X-LoRA over adapters, with layers of these shapes; its tensors by PEFT's names."""
    random = torch.Generator().manual_seed(len(shapes))
    tensors = {}
    for i, (rows, cols) in enumerate(shapes):
        name = f"base_model.internal_xlora_classifier.layers.{3 * i}"  # ReLU and dropout lie between
        tensors[f"{name}.weight"] = torch.randn(rows, cols, generator=random) / cols**0.5
        tensors[f"{name}.bias"] = torch.randn(rows, generator=random)
    sizes = {"xlora_depth": len(shapes), "xlora_size": shapes[0][0]}
    named = {str(i): str(member) for i, member in enumerate(members)}
    write_adapter(folder, tensors, {"peft_type": "XLORA", "adapters": named} | sizes | more)
    return tensors
