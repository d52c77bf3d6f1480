"""ModelSpec from a Hugging Face config.json, old and new spelling. Knows no tensors."""

from __future__ import annotations

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.models.spec import MAX_LAYERS, Layer, LinearScaling, Llama3Scaling, ModelSpec, Moe, Rope

# What `fingerpost moe refactor` makes of a dense model.
REFACTORED = "fingerpost_moe"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe", REFACTORED)
SPARSE_FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", REFACTORED)
DEFAULT_THETA = 10000.0


def spec_from_config(config: Metadata) -> ModelSpec:
    """The spec of a supported family; UnsupportedModel names what is missing, BadWeights a wrong value."""
    family = config.string("model_type", "")
    if family not in FAMILIES:
        raise UnsupportedModel(f"model_type {family!r} is not supported; supported: {', '.join(FAMILIES)}")
    if config.has("quantization_config"):
        raise UnsupportedModel("quantised safetensors are not supported; use a GGUF file or unquantised weights")
    if (act := config.string("hidden_act", "silu")) not in ("silu", "swish"):
        raise UnsupportedModel(f"hidden_act {act!r} is not supported")
    heads = config.integer("num_attention_heads")
    hidden = config.integer("hidden_size")
    bias = config.flag("attention_bias", False)
    return ModelSpec(
        family=family,
        layers=_layers(config, family),
        hidden=hidden,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=config.integer("head_dim", hidden // max(1, heads)),
        intermediate=config.integer("intermediate_size"),
        vocab_size=config.integer("vocab_size"),
        context_tokens=config.integer("max_position_embeddings", 2048),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        rope=_rope(config),
        tied_embeddings=config.flag("tie_word_embeddings", False),
        qk_norm=family in ("qwen3", "qwen3_moe"),
        qkv_bias=bias or config.flag("qkv_bias", family in ("qwen2", "qwen2_moe")),
        out_bias=bias,
        mlp_bias=config.flag("mlp_bias", False),
        moe=_moe(config, family),
    )


def _rope(config: Metadata) -> Rope:
    new, old = config.child("rope_parameters"), config.child("rope_scaling")
    parameters = new if new.values else old
    theta = new.number("rope_theta", config.number("rope_theta", DEFAULT_THETA))
    if parameters.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0)) != 1.0:
        raise UnsupportedModel("partial rotary embedding is not supported")
    kind = parameters.string("rope_type", parameters.string("type", "default"))
    if kind == "default":
        return Rope(theta, interleaved=False)
    if kind == "linear":
        return Rope(theta, False, LinearScaling(parameters.number("factor")))
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=parameters.number("factor"),
            low_freq_factor=parameters.number("low_freq_factor"),
            high_freq_factor=parameters.number("high_freq_factor"),
            original_context=parameters.integer("original_max_position_embeddings"),
        )
        return Rope(theta, False, scaling)
    raise UnsupportedModel(f"rope type {kind!r} is not supported")


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
    return Moe(
        experts=config.integer("num_experts", config.integer("num_local_experts", 128)),
        active=config.integer("num_experts_per_tok", 8),
        intermediate=config.integer("moe_intermediate_size"),
        normalise=config.flag("norm_topk_prob", False),
        shared=config.integer("shared_expert_intermediate_size", 0) if family != "qwen3_moe" else 0,
        shared_gate=family == "qwen2_moe",
        even=family == REFACTORED,
        early=family == REFACTORED and config.flag("early_routers", False),
    )


def _layers(config: Metadata, family: str) -> tuple[Layer, ...]:
    count = config.integer("num_hidden_layers")
    if not 0 < count <= MAX_LAYERS:
        raise BadWeights(f"{config.where}: num_hidden_layers = {count} is out of range")
    windows = _windows(config, family, count)
    dense = set(config.integers("mlp_only_layers"))
    step = max(1, config.integer("decoder_sparse_step", 1))
    sparse_family = family in SPARSE_FAMILIES
    return tuple(
        Layer(window=windows[i], sparse=sparse_family and i not in dense and (i + 1) % step == 0) for i in range(count)
    )


def _windows(config: Metadata, family: str, count: int) -> list[int | None]:
    window = config.integer("sliding_window", 0) or None
    if family.startswith("qwen") and not config.flag("use_sliding_window", False):
        window = None
    if window is None or family == "llama":
        return [None] * count
    if config.has("layer_types"):
        kinds = config.strings("layer_types")
        if len(kinds) != count:
            raise BadWeights(f"{config.where}: layer_types has {len(kinds)} entries for {count} layers")
        return [window if kind == "sliding_attention" else None for kind in kinds]
    first = config.integer("max_window_layers", 0) if family in ("qwen2", "qwen3", "qwen2_moe") else 0
    return [window if i >= first else None for i in range(count)]
