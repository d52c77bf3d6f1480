"""What adapters cost: tokens a second of SmolLM2, four sequences at once, with 0, 1 and 4 random adapters of rank 16.

    python -m benchmarks.adapters [--threads N] [--rounds N] [--dtype auto] [--json FILE]

Every way is measured in turn, in each of several rounds, on the same model: prompts of 64 tokens, then 48 steps of one
token each. An adapter changes all seven projections. Medians over rounds, with the least and the most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from array import array
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from safetensors.torch import save_file

from local_runtime.adapters.base import TARGETS, Wears
from local_runtime.adapters.load import load_adapter
from local_runtime.adapters.shapes import shapes_of
from local_runtime.bundled import bundled_path
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import LanguageModel, Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.spec import ModelSpec

SEQUENCES, PROMPT, STEPS, RANK = 4, 64, 48, 16
PAGES_EACH = (PROMPT + STEPS) // PAGE
WAYS: dict[str, tuple[int | None, ...]] = {"none": (None,) * 4, "one": (0, 0, 0, 0), "four": (0, 1, 2, 3)}


def save_random(folder: Path, spec: ModelSpec, seed: int) -> Path:
    """A random adapter in PEFT's form."""
    random, tensors = torch.Generator().manual_seed(seed), {}
    for i in range(len(spec.layers)):
        for target, (rows, cols) in shapes_of(spec).items():
            block = "self_attn" if target in TARGETS[:4] else "mlp"
            name = f"base_model.model.model.layers.{i}.{block}.{target}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, cols, generator=random) / cols**0.5
            tensors[f"{name}.lora_B.weight"] = torch.randn(rows, RANK, generator=random) * 0.01
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(TARGETS)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def once(model: LanguageModel, adapters: tuple[int | None, ...]) -> tuple[float, float]:
    """Tokens a second of prompts and of steps, all sequences together."""
    random = np.random.default_rng(0)
    pages = [array("i", range(i * PAGES_EACH, (i + 1) * PAGES_EACH)) for i in range(SEQUENCES)]
    ids = [int(token) for token in random.integers(0, model.vocab_size, PROMPT)]
    began = perf_counter()
    for held, adapter in zip(pages, adapters, strict=True):
        model.forward([Segment(held, 0, ids, 1, adapter)])
    read = perf_counter()
    for at in range(PROMPT, PROMPT + STEPS):
        model.forward([Segment(held, at, [at], 1, one) for held, one in zip(pages, adapters, strict=True)])
    return SEQUENCES * PROMPT / (read - began), SEQUENCES * STEPS / (perf_counter() - read)


def measure(threads: int, rounds: int, dtype: str) -> dict[str, dict[str, list[float]]]:
    """For every way, median, least and most tokens a second of prompts and steps."""
    options = LoadOptions(dtype=dtype, slots=SEQUENCES, context_tokens=PAGES_EACH * PAGE)
    loaded = load_model(bundled_path("smollm2"), options)
    loaded.model.use_threads(threads)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("before any is loaded", *WAYS)}
    once(loaded.model, WAYS["none"])
    for _ in range(rounds):
        found["before any is loaded"].append(once(loaded.model, WAYS["none"]))
    with tempfile.TemporaryDirectory() as folder:
        if loaded.wears is not None:
            _load_four(loaded.wears, Path(folder))
    once(loaded.model, WAYS["four"])
    for _ in range(rounds):
        for name, adapters in WAYS.items():
            found[name].append(once(loaded.model, adapters))
    return {name: _told(rows) for name, rows in found.items()}


def _load_four(model: Wears, folder: Path) -> None:
    for seed in range(4):
        model.wear(load_adapter(f"+lora:{save_random(folder / str(seed), model.spec, seed)}", model.spec))


def _told(rows: list[tuple[float, float]]) -> dict[str, list[float]]:
    kinds = zip(("prompts", "steps"), zip(*rows, strict=True), strict=True)
    return {kind: [statistics.median(each), min(each), max(each)] for kind, each in kinds}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(options.threads, options.rounds, options.dtype)
    for name, kinds in report.items():
        told = "  ".join(f"{kind} {one[0]:7.1f} ({one[1]:.1f} to {one[2]:.1f})" for kind, one in kinds.items())
        print(f"{name:21} {told}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
