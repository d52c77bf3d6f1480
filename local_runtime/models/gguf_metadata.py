"""ModelSpec from GGUF metadata and tensor names. Knows no bytes and no torch."""

from __future__ import annotations

from collections.abc import Container
from types import MappingProxyType
from typing import Final

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import MAX_LAYERS, Layer, LinearScaling, ModelSpec, Moe, Rope

GEMMAS = ("gemma", "gemma2", "gemma3")
ARCHITECTURES = ("llama", "qwen2", "qwen3", "phi3", *GEMMAS, "olmoe", "qwen2moe", "qwen3moe")
# Families whose largest model divides scores by the root of hidden / heads; its number of layers tells it.
_LARGEST: Final = MappingProxyType({"gemma2": 46, "gemma3": 62})
_PATTERN: Final = MappingProxyType({"gemma2": 2, "gemma3": 6})


def spec_from_gguf(metadata: Metadata, tensors: Container[str]) -> ModelSpec:
    """The spec of a supported architecture; `tensors` tells what metadata leaves out (biases, a separate head)."""
    arch = metadata.string("general.architecture", "")
    if arch not in ARCHITECTURES:
        raise UnsupportedModel(f"GGUF architecture {arch!r} is not supported; supported: {', '.join(ARCHITECTURES)}")
    hidden = metadata.integer(f"{arch}.embedding_length")
    heads = metadata.integer(f"{arch}.attention.head_count")
    head_dim = metadata.integer(f"{arch}.attention.key_length", hidden // max(1, heads))
    turning = metadata.integer(f"{arch}.rope.dimension_count", head_dim)
    if turning != head_dim and arch != "phi3":
        raise UnsupportedModel("partial rotary embedding is not supported for this architecture")
    if "rope_factors_long.weight" in tensors:
        raise UnsupportedModel("rope type 'longrope' is not supported")
    moe = _moe(metadata, arch)
    gemma, layers = arch in GEMMAS, _layers(metadata, arch, moe is not None)
    return ModelSpec(
        family=arch,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=metadata.integer(f"{arch}.attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate=metadata.integer(f"{arch}.feed_forward_length", moe.intermediate if moe else None),
        vocab_size=len(metadata.strings("tokenizer.ggml.tokens")),
        context_tokens=metadata.integer(f"{arch}.context_length"),
        norm_eps=metadata.number(f"{arch}.attention.layer_norm_rms_epsilon"),
        rope=_rope(metadata, arch, 0 if turning == head_dim else turning),
        tied_embeddings="output.weight" not in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        out_bias="blk.0.attn_output.bias" in tensors,
        moe=moe,
        second_rope=_second_rope(metadata) if arch == "gemma3" else None,
        qk_norm_whole=arch == "olmoe",
        post_norms=arch in ("gemma2", "gemma3"),
        gelu=gemma,
        embed_scale=hidden**0.5 if gemma else 1.0,
        attn_scale=(hidden / max(1, heads)) ** -0.5 if len(layers) == _LARGEST.get(arch) else 0.0,
        attn_cap=metadata.number(f"{arch}.attn_logit_softcapping", 50.0) if arch == "gemma2" else 0.0,
        logit_cap=metadata.number(f"{arch}.final_logit_softcapping", 30.0 if arch == "gemma2" else 0.0),
    )


def _layers(metadata: Metadata, arch: str, sparse: bool) -> tuple[Layer, ...]:
    count = metadata.integer(f"{arch}.block_count")
    if not 0 < count <= MAX_LAYERS:
        raise BadWeights(f"{metadata.where}: {arch}.block_count = {count} is out of range")
    window = metadata.integer(f"{arch}.attention.sliding_window", 4096 if arch == "gemma2" else 0) or None
    if arch not in _PATTERN:
        return (Layer(window, sparse),) * count
    local = _locals(metadata, arch, count) if window else [False] * count
    return tuple(Layer(window if here else None, sparse, here and arch == "gemma3") for here in local)


def _locals(metadata: Metadata, arch: str, count: int) -> list[bool]:
    """Which layers have a window: as listed, or all but one in so many."""
    key = f"{arch}.attention.sliding_window_pattern"
    if isinstance(metadata.values.get(key), list):
        listed = metadata.flags(key)
        if len(listed) != count:
            raise BadWeights(f"{metadata.where}: {key} has {len(listed)} entries for {count} layers")
        return listed
    pattern = max(1, metadata.integer(key, _PATTERN[arch]))
    return [(i + 1) % pattern != 0 for i in range(count)]


def _second_rope(metadata: Metadata) -> Rope:
    return Rope(metadata.number("gemma3.rope.freq_base_swa", 10000.0), interleaved=False)


def _rope(metadata: Metadata, arch: str, width: int) -> Rope:
    theta = metadata.number(f"{arch}.rope.freq_base", 10000.0)
    interleaved = arch == "llama"
    kind = metadata.string(f"{arch}.rope.scaling.type", "none")
    if kind == "none":
        return Rope(theta, interleaved, width=width)
    if kind == "linear":
        return Rope(theta, interleaved, LinearScaling(metadata.number(f"{arch}.rope.scaling.factor")), width)
    raise UnsupportedModel(f"rope scaling {kind!r} is not supported")


def _moe(metadata: Metadata, arch: str) -> Moe | None:
    experts = metadata.integer(f"{arch}.expert_count", 0)
    if experts == 0:
        return None
    width = metadata.integer(f"{arch}.expert_feed_forward_length", metadata.integer(f"{arch}.feed_forward_length", 0))
    shared = metadata.integer(f"{arch}.feed_forward_length", 0) if arch == "qwen2moe" else 0
    return Moe(
        experts,
        metadata.integer(f"{arch}.expert_used_count"),
        width,
        normalise=arch not in ("olmoe", "qwen2moe"),
        shared=metadata.integer(f"{arch}.expert_shared_feed_forward_length", shared) if shared else 0,
        shared_gate=arch == "qwen2moe",
    )
