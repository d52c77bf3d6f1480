"""ModelSpec from a Hugging Face config.json, old and new spelling. Knows no tensors."""

from __future__ import annotations

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.deepseek import FAMILY as DEEPSEEK
from local_runtime.models.deepseek import latent_of, mixture_of, score_scale
from local_runtime.models.hf_layers import layers, ropes
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import MAX_SIZE, ModelSpec, Moe

# What `fingerpost moe refactor` makes of a dense model.
REFACTORED = "fingerpost_moe"
SPARSE_FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", DEEPSEEK, REFACTORED)
GEMMAS = ("gemma", "gemma2", "gemma3_text")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", *GEMMAS, *SPARSE_FAMILIES)
# The first Gemma's files say gelu and mean its tanh form.
_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu")
_SILU = ("silu", "swish")


def spec_from_config(config: Metadata) -> ModelSpec:
    """The spec of a supported family; UnsupportedModel names what is missing, BadWeights a wrong value."""
    family = config.string("model_type", "")
    if family not in FAMILIES:
        raise UnsupportedModel(f"model_type {family!r} is not supported; supported: {', '.join(FAMILIES)}")
    if config.has("quantization_config"):
        raise UnsupportedModel("quantised safetensors are not supported; use a GGUF file or unquantised weights")
    _refuse(config, family)
    heads = config.integer("num_attention_heads")
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    gemma = family in GEMMAS
    rope, second_rope = ropes(config, family)
    latent = latent_of(config) if family == DEEPSEEK else None
    return ModelSpec(
        family=family,
        layers=layers(config, family, sparse=family in SPARSE_FAMILIES),
        hidden=hidden,
        heads=heads,
        kv_heads=1 if latent else config.integer("num_key_value_heads", heads),
        head_dim=latent.width if latent else config.integer("head_dim", 256 if gemma else hidden // max(1, heads)),
        intermediate=config.integer("intermediate_size"),
        vocab_size=config.integer("vocab_size"),
        context_tokens=config.integer("max_position_embeddings", 2048),
        norm_eps=config.number("rms_norm_eps", 1e-5 if family in ("phi3", "olmoe") else 1e-6),
        rope=rope,
        tied_embeddings=config.flag("tie_word_embeddings", gemma or family == "smollm3"),
        qk_norm=family in ("qwen3", "qwen3_moe", "gemma3_text", "olmoe"),
        qkv_bias=bias or config.flag("qkv_bias", family in ("qwen2", "qwen2_moe")),
        out_bias=bias,
        mlp_bias=config.flag("mlp_bias", False),
        moe=_moe(config, family),
        second_rope=second_rope,
        qk_norm_whole=family == "olmoe",
        post_norms=family in ("gemma2", "gemma3_text"),
        norm_offset=1.0 if gemma else 0.0,
        gelu=gemma,
        embed_scale=min(hidden, MAX_SIZE) ** 0.5 if gemma else 1.0,
        attn_scale=score_scale(config, latent, rope) if latent else _attn_scale(config, family),
        attn_cap=_cap(config, "attn_logit_softcapping", 50.0) if family in ("gemma2", "gemma3_text") else 0.0,
        logit_cap=_cap(config, "final_logit_softcapping", 30.0) if family in ("gemma2", "gemma3_text") else 0.0,
        latent=latent,
    )


def _refuse(config: Metadata, family: str) -> None:
    """UnsupportedModel for what would be computed wrongly."""
    gemma = family in GEMMAS
    act = config.string("hidden_activation", config.string("hidden_act", _GELU[0] if gemma else _SILU[0]))
    if act not in (_GELU if gemma else _SILU):
        raise UnsupportedModel(f"hidden_act {act!r} is not supported for {family}")
    if config.has("clip_qkv"):
        raise UnsupportedModel("clip_qkv is not supported")
    if config.flag("use_bidirectional_attention", False):
        raise UnsupportedModel("use_bidirectional_attention is not supported")


def _attn_scale(config: Metadata, family: str) -> float:
    if family not in ("gemma2", "gemma3_text"):
        return 0.0
    scalar = config.number("query_pre_attn_scalar", 256)
    if not scalar > 0:
        raise BadWeights(f"{config.where}: query_pre_attn_scalar = {scalar} must be positive")
    return float(scalar**-0.5)


def _cap(config: Metadata, key: str, default: float) -> float:
    """A null means no cap; Gemma 2's files that leave the key out mean its default."""
    absent = key not in config.values and config.string("model_type") == "gemma2"
    return config.number(key, default if absent else 0.0)


def _moe(config: Metadata, family: str) -> Moe | None:
    if family == "mixtral":
        return Moe(
            experts=config.integer("num_local_experts", 8),
            active=config.integer("num_experts_per_tok", 2),
            intermediate=config.integer("intermediate_size"),
            normalise=True,
        )
    if family not in SPARSE_FAMILIES:
        return None
    if family == DEEPSEEK:
        return mixture_of(config)
    return Moe(
        experts=config.integer("num_experts", config.integer("num_local_experts", 64 if family == "olmoe" else 128)),
        active=config.integer("num_experts_per_tok", 8),
        intermediate=config.integer("intermediate_size" if family == "olmoe" else "moe_intermediate_size"),
        normalise=config.flag("norm_topk_prob", False),
        shared=config.integer("shared_expert_intermediate_size", 0) if family not in ("qwen3_moe", "olmoe") else 0,
        shared_gate=family == "qwen2_moe",
        even=family == REFACTORED,
        early=family == REFACTORED and config.flag("early_routers", False),
    )
