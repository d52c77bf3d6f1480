"""ModelSpec from GGUF metadata and tensor names. Knows no bytes and no torch."""

from __future__ import annotations

from collections.abc import Container

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import MAX_LAYERS, Layer, LinearScaling, ModelSpec, Moe, Rope

ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3moe")


def spec_from_gguf(metadata: Metadata, tensors: Container[str]) -> ModelSpec:
    """The spec of a supported architecture; `tensors` tells what metadata leaves out (biases, a separate head)."""
    arch = metadata.string("general.architecture", "")
    if arch not in ARCHITECTURES:
        raise UnsupportedModel(f"GGUF architecture {arch!r} is not supported; supported: {', '.join(ARCHITECTURES)}")
    hidden = metadata.integer(f"{arch}.embedding_length")
    heads = metadata.integer(f"{arch}.attention.head_count")
    head_dim = metadata.integer(f"{arch}.attention.key_length", hidden // max(1, heads))
    if metadata.integer(f"{arch}.rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModel("partial rotary embedding is not supported")
    moe = _moe(metadata, arch)
    return ModelSpec(
        family=arch,
        layers=_layers(metadata, arch, moe is not None),
        hidden=hidden,
        heads=heads,
        kv_heads=metadata.integer(f"{arch}.attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate=metadata.integer(f"{arch}.feed_forward_length", moe.intermediate if moe else None),
        vocab_size=len(metadata.strings("tokenizer.ggml.tokens")),
        context_tokens=metadata.integer(f"{arch}.context_length"),
        norm_eps=metadata.number(f"{arch}.attention.layer_norm_rms_epsilon"),
        rope=_rope(metadata, arch),
        tied_embeddings="output.weight" not in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        out_bias="blk.0.attn_output.bias" in tensors,
        moe=moe,
    )


def _layers(metadata: Metadata, arch: str, sparse: bool) -> tuple[Layer, ...]:
    count = metadata.integer(f"{arch}.block_count")
    if not 0 < count <= MAX_LAYERS:
        raise BadWeights(f"{metadata.where}: {arch}.block_count = {count} is out of range")
    window = metadata.integer(f"{arch}.attention.sliding_window", 0) or None
    return (Layer(window, sparse),) * count


def _rope(metadata: Metadata, arch: str) -> Rope:
    theta = metadata.number(f"{arch}.rope.freq_base", 10000.0)
    interleaved = arch == "llama"
    kind = metadata.string(f"{arch}.rope.scaling.type", "none")
    if kind == "none":
        return Rope(theta, interleaved)
    if kind == "linear":
        return Rope(theta, interleaved, LinearScaling(metadata.number(f"{arch}.rope.scaling.factor")))
    raise UnsupportedModel(f"rope scaling {kind!r} is not supported")


def _moe(metadata: Metadata, arch: str) -> Moe | None:
    experts = metadata.integer(f"{arch}.expert_count", 0)
    if experts == 0:
        return None
    width = metadata.integer(f"{arch}.expert_feed_forward_length", metadata.integer(f"{arch}.feed_forward_length", 0))
    return Moe(experts, metadata.integer(f"{arch}.expert_used_count"), width, normalise=True)
