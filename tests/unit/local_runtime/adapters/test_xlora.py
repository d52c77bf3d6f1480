"""X-LoRA's gate against two passes through Hugging Face's model, the second with what the gate says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from local_runtime.adapters.base import Adapter, Gate
from local_runtime.adapters.load import load_adapter
from local_runtime.base import UnsupportedModel
from local_runtime.models.transformer import Transformer
from tests.unit.local_runtime.adapters.made import IDS, Logits, Tensors, linears, save_adapter, save_gate
from tests.unit.local_runtime.tiny import load_tiny, save_tiny, segment

TARGETS = (["q_proj", "v_proj"], ["v_proj", "q_proj", "down_proj"])
PLACES = 9  # three layers with q, v and down
WAYS: dict[str, tuple[list[tuple[int, int]], dict[str, Any]]] = {
    "one for all places": ([(2, 32)], {}),
    "apart": ([(24, 32), (24, 24), (2 * PLACES, 24)], {"layerwise_scalings": True}),
    "the best": ([(16, 32), (2 * PLACES, 16)], {"layerwise_scalings": True, "top_k_lora": 1}),
    "the best, summing to one": ([(2, 32)], {"top_k_lora": 1, "enable_softmax_topk": True}),
    "sharper and less": ([(2, 32)], {"softmax_temperature": 0.5, "global_scaling_weight": 0.7}),
    "as it is": ([(2, 32)], {"enable_softmax": False, "global_scaling_weight": 0.5}),
}


def shares(said: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """[tokens, places or 1, 2] of the gate's numbers."""
    found = said.view(len(said), -1, 2)
    if config.get("enable_softmax", True):
        found = torch.softmax(found / config.get("softmax_temperature", 1.0), dim=-1)
    if "top_k_lora" in config:
        found = torch.where(found == found.amax(dim=-1, keepdim=True), found, 0.0)
    if config.get("enable_softmax_topk"):
        found = (found > 0).float()  # a softmax over the only one
    by: float = config.get("global_scaling_weight", 1.0)
    return found * by


def two_passes(model: Any, members: list[Tensors], gate: Tensors, config: dict[str, Any]) -> Logits:
    """The second pass' logits [tokens, vocabulary]."""
    ids = torch.tensor([IDS])
    with torch.no_grad():
        said = model(ids, output_hidden_states=True).hidden_states[-1][0]
        names = sorted({name.rsplit(".", 1)[0] for name in gate})
        for i, name in enumerate(names):
            said = (said.relu() if i else said) @ gate[f"{name}.weight"].T + gate[f"{name}.bias"]
        by = shares(said, config)
        changed = linears(model, ["q_proj", "v_proj", "down_proj"])
        hooks = [
            one.register_forward_hook(adding(name, members, by[:, min(place, by.shape[1] - 1)]))
            for place, (name, one) in enumerate(changed.items())
        ]
        logits: Logits = model(ids).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    return logits


def adding(name: str, members: list[Tensors], by: torch.Tensor) -> Callable[..., torch.Tensor]:
    def hook(_: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        for number, tensors in enumerate(members):
            down = tensors.get(f"base_model.model.{name}.lora_A.weight")
            if down is not None:
                up = tensors[f"base_model.model.{name}.lora_B.weight"]
                output = output + by[:, number, None] * (inputs[0] @ down.T @ up.T)
        return output

    return hook


@pytest.fixture(params=list(WAYS))
def mixed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Transformer, int, Logits]:
    """A model, its gate's number, and the logits that are wanted."""
    shapes, config = WAYS[request.param]
    theirs = save_tiny("llama", tmp_path / "base")
    members = [
        save_adapter(theirs, tmp_path / str(i), i, rank=3 + i, targets=targets) for i, targets in enumerate(TARGETS)
    ]
    gate = save_gate(tmp_path / "gate", [Path("../0"), tmp_path / "1"], shapes, **config)
    ours = load_tiny(tmp_path / "base")
    number = ours.wear(load_adapter(f"+xlora:{tmp_path / 'gate'}", ours.spec))
    return ours, number, two_passes(theirs, members, gate, config)


def test_tokens_are_mixed_as_the_gate_says(mixed: tuple[Transformer, int, Logits]) -> None:
    ours, number, wanted = mixed

    got = ours.forward([segment(0, 0, IDS, len(IDS), number)])

    np.testing.assert_allclose(got, wanted, atol=1e-3, rtol=1e-3)
    assert np.abs(got - ours.forward([segment(1, 0, IDS, len(IDS))])).max() > 0.1


def test_the_gate_reads_the_base_alone_however_a_prompt_is_cut(mixed: tuple[Transformer, int, Logits]) -> None:
    ours, number, wanted = mixed

    parts = [ours.forward([segment(1, 0, IDS, 1), segment(0, 0, IDS[:9], 9, number)])[1:]]
    parts += [ours.forward([segment(0, at, IDS[at : at + 1], 1, number)]) for at in range(9, len(IDS))]

    np.testing.assert_allclose(np.concatenate(parts), wanted, atol=2e-3, rtol=2e-3)


def test_a_gate_in_a_model_that_forgets_keys_and_values_is_refused(mixed: tuple[Transformer, int, Logits]) -> None:
    ours, _, _ = mixed
    ours.shares = False

    with pytest.raises(UnsupportedModel, match="kv_policy full"):
        ours.wear(Adapter((), Gate((), (), apart=False)))
