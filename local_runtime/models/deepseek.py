"""DeepSeek-V2's part of a config.json (arXiv:2405.04434): latent attention, which layers have experts, the mixture."""

from __future__ import annotations

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.models.rope import yarn_magnitude
from local_runtime.models.spec import Latent, Moe, Rope, Yarn

FAMILY = "deepseek_v2"
_METHODS = ("greedy", "group_limited_greedy")


def latent_of(config: Metadata) -> Latent:
    """Widths of latent attention; a `q_lora_rank` of null means queries without a latent."""
    found = Latent(
        query_rank=_unless_null(config, "q_lora_rank", 1536),
        rank=config.integer("kv_lora_rank", 512),
        plain=config.integer("qk_nope_head_dim", 128),
        turned=config.integer("qk_rope_head_dim", 64),
        value=config.integer("v_head_dim", 128),
    )
    found.check()
    return found


def score_scale(config: Metadata, latent: Latent, rope: Rope) -> float:
    """The power of -1/2 of a head's width, sharpened for the longer context where yarn's parameters say so."""
    parameters = config.child("rope_parameters")
    parameters = parameters if parameters.values else config.child("rope_scaling")
    sharpened = 1.0
    if isinstance(rope.scaling, Yarn) and parameters.number("mscale_all_dim", 0.0):
        sharpened = yarn_magnitude(rope.scaling.factor, parameters.number("mscale_all_dim"))
    return float((latent.plain + latent.turned) ** -0.5 * sharpened * sharpened)


def first_sparse(config: Metadata) -> int:
    """The layers before this one are dense."""
    if config.integer("moe_layer_freq", 1) != 1:
        raise UnsupportedModel("moe_layer_freq other than 1 is not supported")
    return config.integer("first_k_dense_replace", 0)


def mixture_of(config: Metadata) -> Moe:
    """As DeepSeek's own code has it, weights that are normalised are not multiplied by `routed_scaling_factor`."""
    method = config.string("topk_method", _METHODS[0])
    if method not in _METHODS:
        raise UnsupportedModel(f"topk_method {method!r} is not supported; supported: {', '.join(_METHODS)}")
    if (scoring := config.string("scoring_func", "softmax")) != "softmax":
        raise UnsupportedModel(f"scoring_func {scoring!r} is not supported")
    if config.flag("mlp_bias", False):
        raise UnsupportedModel(f"mlp_bias is not supported for {FAMILY}")
    active, width = config.integer("num_experts_per_tok"), config.integer("moe_intermediate_size", 1407)
    normalise = config.flag("norm_topk_prob", False) and active > 1
    grouped = method == _METHODS[1]
    return Moe(
        experts=config.integer("n_routed_experts", 64),
        active=active,
        intermediate=width,
        normalise=normalise,
        scale=1.0 if normalise else _factor(config),
        shared=_unless_null(config, "n_shared_experts", 2) * width,
        groups=config.integer("n_group") if grouped else 1,
        active_groups=config.integer("topk_group") if grouped else 1,
    )


def _factor(config: Metadata) -> float:
    factor = config.number("routed_scaling_factor", 1.0)
    if not factor > 0:
        raise BadWeights(f"{config.where}: routed_scaling_factor = {factor} must be positive")
    return factor


def _unless_null(config: Metadata, key: str, default: int) -> int:
    """0 for a null that is written out; the family's default for a key that is left out."""
    return config.integer(key, 0 if key in config.values else default)
