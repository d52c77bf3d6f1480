"""Adapters in torch against merged weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from local_runtime.adapters.base import ATTENTION, TARGETS
from local_runtime.adapters.load import load_adapter
from local_runtime.models.transformer import Transformer
from tests.unit.local_runtime.adapters.made import IDS, Logits, merged_logits, save_adapter, write_adapter
from tests.unit.local_runtime.tiny import load_tiny, save_tiny, segment

FAMILIES = [
    "llama",
    "llama 3.1, biased",
    "mistral, window",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2 wide",
    "gemma3_text wide",
    "mixtral",
    "olmoe wide",
]


def logits_of(model: Transformer, adapter: int | None, slot: int = 0) -> Logits:
    return model.forward([segment(slot, 0, IDS, len(IDS), adapter)])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_the_merged_weights(family: str, tmp_path: Path) -> None:
    theirs = save_tiny(family, tmp_path / "base")
    targets = ATTENTION if family in ("mixtral", "olmoe wide") else TARGETS
    tensors = save_adapter(theirs, tmp_path / "one", 1, rank=4, lora_alpha=6, targets=targets)
    ours = load_tiny(tmp_path / "base")
    plain = logits_of(ours, None)

    number = ours.wear(load_adapter(f"+lora:{tmp_path / 'one'}", ours.spec))

    wanted = merged_logits(theirs, [(tensors, 1.5)])
    np.testing.assert_allclose(logits_of(ours, number), wanted, atol=2e-4, rtol=2e-4)
    assert np.abs(wanted - plain).max() > 0.1
    assert (logits_of(ours, None) == plain).all()


def test_two_adapters_and_none_in_a_batch_are_as_alone(tmp_path: Path) -> None:
    theirs = save_tiny("llama", tmp_path / "base")
    for seed in (1, 2):
        save_adapter(theirs, tmp_path / str(seed), seed, rank=2 * seed)
    ours = load_tiny(tmp_path / "base")
    worn = [None, *(ours.wear(load_adapter(f"+lora:{tmp_path / str(seed)}", ours.spec)) for seed in (1, 2))]

    together = ours.forward([segment(i, 0, IDS, len(IDS), adapter) for i, adapter in enumerate(worn)])

    for i, adapter in enumerate(worn):
        alone = logits_of(load_and_wear(tmp_path), adapter)
        np.testing.assert_allclose(together[i * len(IDS) : (i + 1) * len(IDS)], alone, atol=1e-4, rtol=1e-4)
    assert np.abs(together[: len(IDS)] - together[len(IDS) : 2 * len(IDS)]).max() > 0.1


def load_and_wear(folder: Path) -> Transformer:
    ours = load_tiny(folder / "base")
    for seed in (1, 2):
        ours.wear(load_adapter(f"+lora:{folder / str(seed)}", ours.spec))
    return ours


def test_several_adapters_are_added_by_their_weights(tmp_path: Path) -> None:
    theirs = save_tiny("llama", tmp_path / "base")
    one, two = (save_adapter(theirs, tmp_path / str(seed), seed) for seed in (1, 2))
    ours = load_tiny(tmp_path / "base")

    number = ours.wear(load_adapter(f"+lora:{tmp_path / '1'}*0.25+lora:{tmp_path / '2'}*-0.5", ours.spec))

    wanted = merged_logits(theirs, [(one, 0.25), (two, -0.5)])
    np.testing.assert_allclose(logits_of(ours, number), wanted, atol=2e-4, rtol=2e-4)


def test_ranks_and_alphas_of_their_own_and_the_root_of_the_rank_are_kept_to(tmp_path: Path) -> None:
    theirs = save_tiny("llama", tmp_path / "base")
    few, some = (
        save_adapter(theirs, tmp_path / str(rank), rank, rank=rank, targets=targets)
        for rank, targets in ((2, ["q_proj", "up_proj"]), (4, ["down_proj", "v_proj"]))
    )
    patterns = {"rank_pattern": {"q_proj": 2, "mlp.up_proj": 2}, "alpha_pattern": {"down_proj": 8}}
    targets = ["q_proj", "up_proj", "down_proj", "v_proj"]
    config = {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": targets} | patterns
    write_adapter(tmp_path / "both", few | some, config)
    ours = load_tiny(tmp_path / "base")

    number = ours.wear(load_adapter(f"+lora:{tmp_path / 'both'}", ours.spec))

    down = {name: tensor for name, tensor in some.items() if "down_proj" in name}
    value = {name: tensor for name, tensor in some.items() if "v_proj" in name}
    wanted = merged_logits(theirs, [(few, 6 / 2**0.5), (down, 8 / 2), (value, 6 / 2)])
    np.testing.assert_allclose(logits_of(ours, number), wanted, atol=5e-4, rtol=5e-4)


def test_in_bfloat16_an_adapter_is_added_to_what_was_rounded(tmp_path: Path) -> None:
    theirs = save_tiny("llama", tmp_path / "base")
    tensors = save_adapter(theirs, tmp_path / "one", 1)
    ours = load_tiny(tmp_path / "base", dtype=torch.bfloat16)

    number = ours.wear(load_adapter(f"+lora:{tmp_path / 'one'}", ours.spec))

    wanted = merged_logits(theirs, [(tensors, 1.0)])
    error = np.abs(logits_of(ours, number) - wanted).mean()
    assert error < 0.1 * np.abs(wanted - merged_logits(theirs, [])).mean()
