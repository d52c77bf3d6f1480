"""Tokens a second of a mixture bigger than the memory it may use, by ways of getting at its experts.

    python -m benchmarks.offload --folder /var/tmp/offload [--experts 32] [--share 0.25] [--limit-mib 1700]

Random weights of a real shape (`--layers`, `--hidden`, `--width`, `--experts`, `--active`), in bfloat16. Every way runs
in a process of its own under a memory limit that counts the page cache (control groups of version 1; without the right
to make one there is no limit, and `peak_mib` is 0). Ways: `pool` and `pool-no-prefetch`, the runtime's own in bfloat16
and in 4 bits; `mmap`, the same files mapped into memory and read by page faults; `accelerate`, transformers with
accelerate's disk offload (installed into an environment of its own: --accelerate PYTHON).
What layers add is kept small, so that a router sees the token itself: each token has experts of its own in every
layer, all experts are wanted alike, and what is wanted again is what tokens are said again.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

VOCABULARY: Final = 4096
MOST_SECONDS: Final = 3600.0
GROUPS: Final = Path("/sys/fs/cgroup/memory")
WAYS: Final = ("pool-bfloat16", "pool-bfloat16-no-prefetch", "pool-int4", "pool-int4-no-prefetch", "mmap-bfloat16")


def make(folder: Path, options: argparse.Namespace) -> None:
    """Write the model as a folder of safetensors with one tensor an expert."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    hidden, width, layers, vocab = options.hidden, options.width, options.layers, VOCABULARY
    random = torch.Generator().manual_seed(0)

    def matrix(rows: int, cols: int, size: float = 1.0) -> Any:
        return (torch.randn(rows, cols, generator=random) * size * cols**-0.5).to(torch.bfloat16)

    index: dict[str, str] = {}

    def save(name: str, tensors: dict[str, Any]) -> None:
        save_file(tensors, folder / name)
        index.update(dict.fromkeys(tensors, name))

    ones = torch.ones(hidden, dtype=torch.bfloat16)
    save(
        "ends.safetensors",
        {
            "model.embed_tokens.weight": matrix(vocab, hidden, hidden**0.5),
            "model.norm.weight": ones,
            "lm_head.weight": matrix(vocab, hidden),
        },
    )
    for i in range(layers):
        at = f"model.layers.{i}."
        tensors = {at + "input_layernorm.weight": ones.clone(), at + "post_attention_layernorm.weight": ones.clone()}
        tensors |= {
            at + f"self_attn.{one}_proj.weight": matrix(hidden, hidden, 0.1 if one == "o" else 1.0) for one in "qkvo"
        }
        tensors[at + "block_sparse_moe.gate.weight"] = matrix(options.experts, hidden)
        for e in range(options.experts):
            expert = at + f"block_sparse_moe.experts.{e}."
            tensors |= {expert + "w1.weight": matrix(width, hidden), expert + "w3.weight": matrix(width, hidden)}
            tensors[expert + "w2.weight"] = matrix(hidden, width, 0.1)
        save(f"layer-{i}.safetensors", tensors)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config = {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "head_dim": 64,
        "vocab_size": vocab,
        "num_local_experts": options.experts,
        "num_experts_per_tok": options.active,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_tokenizer(folder / "tokenizer.json")


def save_tokenizer(path: Path) -> None:
    """A token is a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from local_runtime.text.tokenizer import byte_of_character

    tokenizer = Tokenizer(models.BPE(dict(byte_of_character()), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))


def text(count: int) -> list[int]:
    """Tokens as often as words are (Zipf); what random weights would say themselves goes round in circles."""
    odds = 1 / np.arange(10, VOCABULARY + 10)
    return [int(one) for one in np.random.default_rng(0).choice(VOCABULARY, count, p=odds / odds.sum())]


def measure(way: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Decode with one way; in the limited process."""
    from local_runtime.models.base import Segment
    from local_runtime.models.load import LoadOptions, load_model
    from local_runtime.models.native import NativeModel

    kind = way.split("-")[1]
    experts = folder.with_name(f"{folder.name}-{kind}")
    began = time.perf_counter()
    loading = LoadOptions(
        dtype="int8",
        slots=1,
        context_tokens=256,
        expert_bytes=int(options.share * _all_bytes(options, kind)),
        expert_folder=experts,
        expert_dtype=kind,
    )
    model = load_model(folder, loading).model
    if not isinstance(model, NativeModel) or model.experts is None:
        raise SystemExit("the native kernels are needed")
    loaded_s = time.perf_counter() - began
    pool = model.experts.pool
    if way.endswith("no-prefetch"):
        pool._ahead = 0
    kept = _mapped(model, experts) if way.startswith("mmap") else None
    model.use_threads(options.threads)
    pages, taken = array("i", range(16)), []
    for i, token in enumerate(text(options.warm + options.tokens)):
        if i == options.warm:
            before = pool.stats.minus(type(pool.stats)())
        began = time.perf_counter()
        model.forward([Segment(pages, i, [token], 1)])
        taken.append(time.perf_counter() - began)
    stats, taken = pool.stats.minus(before), taken[options.warm :]
    del kept
    return {
        "tokens_per_s": len(taken) / sum(taken),
        "median_ms": statistics.median(taken) * 1e3,
        "hit_rate": stats.hit_rate,
        "read_mb_per_token": stats.read_bytes / len(taken) / 1e6,
        "waited_ms_per_token": stats.waited_s / len(taken) * 1e3,
        "loaded_s": loaded_s,
    }


def _all_bytes(options: argparse.Namespace, kind: str) -> int:
    """Of all experts, as stored."""
    per_number = {"bfloat16": 2.0, "int4": 320 / 512}[kind]
    return int(options.layers * options.experts * 3 * options.hidden * options.width * per_number)


def _mapped(model: Any, folder: Path) -> list[mmap.mmap]:
    """Let the model's tables point into mapped files, and never ask the pool for anything."""
    import ctypes

    from local_runtime.experts.store import ExpertStore, path_of

    layout = ExpertStore.open(folder).layout
    shape_at = model.experts.shape.at
    kept = []
    for layer, table in model.experts.tables.items():
        for expert in range(layout.experts):
            with path_of(folder, (layer, expert)).open("rb") as file:
                kept.append(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
            begin = ctypes.addressof(ctypes.c_uint8.from_buffer(kept[-1]))
            table[expert] = shape_at([begin + layout.place(plane) for plane in range(len(layout.planes))])
    model.experts = None
    return kept


ACCELERATE: Final = """
import json, sys, time, torch
from transformers import AutoModelForCausalLM
folder, offload, threads, warm = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
tokens = json.loads(sys.argv[5])
torch.set_num_threads(threads)
began = time.perf_counter()
# Everything but the layers stays in memory; layers are read whenever they are computed.
config = json.load(open(folder + "/config.json"))
places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
places |= {f"model.layers.{i}": "disk" for i in range(config["num_hidden_layers"])}
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map=places, offload_folder=offload)
loaded = time.perf_counter() - began
taken, past = [], None
with torch.inference_mode():
    for token in tokens:
        began = time.perf_counter()
        past = model(torch.tensor([[token]]), past_key_values=past, use_cache=True).past_key_values
        taken.append(time.perf_counter() - began)
taken = taken[warm:]
median = sorted(taken)[len(taken) // 2] * 1e3
print(json.dumps({"tokens_per_s": len(taken) / sum(taken), "median_ms": median, "loaded_s": loaded}))
"""


@contextmanager
def limited(mib: int) -> Iterator[Path | None]:
    """A control group of so much memory, page cache included; None where none can be made."""
    group = GROUPS / f"fingerpost-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(mib << 20))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def forget(folder: Path) -> None:
    """Let the system drop what it keeps of the files: pages that another process has read cost the limit nothing."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(command: Sequence[str], options: argparse.Namespace) -> dict[str, float]:
    """The command's last line, in its own group, with the most memory it had."""
    forget(options.folder)
    with limited(options.limit_mib) as group:

        def enter() -> None:
            if group is not None:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        done = subprocess.run(
            command, capture_output=True, text=True, preexec_fn=enter, check=False, timeout=MOST_SECONDS
        )
        peak = int((group / "memory.max_usage_in_bytes").read_text()) if group else 0
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-3:]), file=sys.stderr)
        return {"failed": done.returncode, "peak_mib": peak >> 20}
    return {**json.loads(done.stdout.splitlines()[-1]), "peak_mib": peak >> 20}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    for name, default in (("layers", 16), ("hidden", 1024), ("width", 1024), ("experts", 32), ("active", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("limit-mib", 1700), ("warm", 8), ("tokens", 24), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--share", type=float, default=0.25, help="of all experts, how much memory may hold")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--accelerate", help="a Python that has transformers and accelerate")
    parser.add_argument("--only", nargs="*", default=WAYS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = options.folder / "model"
    if options.one:
        print(json.dumps(measure(options.one, model, options)))
        return
    if not model.exists():
        make(model, options)
    own = [sys.executable, "-m", "benchmarks.offload", *sys.argv[1:], "--one"]
    for kind in {way.split("-")[1] for way in options.only}:
        if not (options.folder / f"model-{kind}").exists():
            subprocess.run([*own, f"pool-{kind}"], check=True, capture_output=True, timeout=MOST_SECONDS)
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for way in options.only:
            rows.setdefault(way, []).append(run([*own, way], options))
        if options.accelerate:
            told = [str(options.threads), "1", json.dumps(text(4))]
            command = [options.accelerate, "-c", ACCELERATE, str(model), str(options.folder / "accelerate"), *told]
            rows.setdefault("accelerate", []).append(run(command, options))
    report = {
        way: {key: float(np.median([one.get(key, np.nan) for one in found])) for key in found[0]}
        for way, found in rows.items()
    }
    for way, row in report.items():
        print(f"{way:28s}", "  ".join(f"{key} {value:.3g}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
