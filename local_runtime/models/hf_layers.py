"""What layers of a Hugging Face config.json see, how they turn, and which of them have experts."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.deepseek import FAMILY as DEEPSEEK
from local_runtime.models.deepseek import first_sparse
from local_runtime.models.metadata import Metadata
from local_runtime.models.rope import yarn_magnitude
from local_runtime.models.spec import (
    MAX_LAYERS,
    MAX_SIZE,
    Layer,
    LinearScaling,
    Llama3Scaling,
    Rope,
    Scaling,
    Unturned,
    Yarn,
)

_THETAS: Final = MappingProxyType({"gemma3_text": 1_000_000.0, "smollm3": 2_000_000.0})
_NO_WINDOW: Final = ("llama", "gemma", "olmoe", DEEPSEEK)
_FULL, _SLIDING = "full_attention", "sliding_attention"


def layers(config: Metadata, family: str, *, sparse: bool) -> tuple[Layer, ...]:
    """One for each layer; `sparse`: the family has experts."""
    count = config.integer("num_hidden_layers")
    if not 0 < count <= MAX_LAYERS:
        raise BadWeights(f"{config.where}: num_hidden_layers = {count} is out of range")
    windows, second = _windows(config, family, count), _second_ropes(config, family, count)
    dense = set(range(min(first_sparse(config), count)) if family == DEEPSEEK else config.integers("mlp_only_layers"))
    step = 1 if family == DEEPSEEK else max(1, config.integer("decoder_sparse_step", 1))
    return tuple(
        Layer(windows[i], sparse and i not in dense and (i + 1) % step == 0, second_rope=second[i])
        for i in range(count)
    )


def ropes(config: Metadata, family: str) -> tuple[Rope, Rope | None]:
    """The rotation, and the one of Gemma 3's local layers or of SmolLM3's that do not turn at all."""
    theta = config.number("rope_theta", _THETAS.get(family, 10000.0))
    new, old = config.child("rope_parameters"), config.child("rope_scaling")
    if family == "gemma3_text":
        local = config.number("rope_local_base_freq", 10000.0)
        if new.has(_FULL) or new.has(_SLIDING):
            return _rope(config, new.child(_FULL), theta), _rope(config, new.child(_SLIDING), local)
        return _rope(config, new if new.values else old, theta), Rope(local, interleaved=False)
    parameters, theta = new if new.values else old, new.number("rope_theta", theta)
    if family == DEEPSEEK:
        theta = parameters.number("rope_theta", theta)
        return Rope(theta, interleaved=True, scaling=_yarn(config, parameters) or _scaling(parameters)), None
    rope = _rope(config, parameters, theta, partly=family == "phi3")
    if family != "smollm3":
        return rope, None
    return rope, Rope(rope.theta, interleaved=False, scaling=Unturned(), width=rope.width)


def _rope(config: Metadata, parameters: Metadata, theta: float, *, partly: bool = False) -> Rope:
    """`partly`: the family may turn only a part of each head."""
    part = parameters.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if part != 1 and not partly:
        raise UnsupportedModel("partial rotary embedding is not supported for this family")
    if not 0 < part <= 1:
        raise BadWeights(f"{config.where}: partial_rotary_factor = {part} must lie between 0 and 1")
    head_dim = config.integer("hidden_size") // max(1, config.integer("num_attention_heads"))
    width = 0 if part == 1 else int(min(config.integer("head_dim", head_dim), MAX_SIZE) * part)
    if part < 1 and width == 0:
        raise BadWeights(f"{config.where}: partial_rotary_factor = {part} leaves nothing to turn")
    return Rope(parameters.number("rope_theta", theta), interleaved=False, scaling=_scaling(parameters), width=width)


def _scaling(parameters: Metadata) -> Scaling | None:
    kind = parameters.string("rope_type", parameters.string("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(parameters.number("factor"))
    if kind == "llama3":
        return Llama3Scaling(
            factor=parameters.number("factor"),
            low_freq_factor=parameters.number("low_freq_factor"),
            high_freq_factor=parameters.number("high_freq_factor"),
            original_context=parameters.integer("original_max_position_embeddings"),
        )
    raise UnsupportedModel(f"rope type {kind!r} is not supported")


def _yarn(config: Metadata, parameters: Metadata) -> Yarn | None:
    """None where it is another scaling. What parameters leave out is as the paper has it (arXiv:2309.00071)."""
    if parameters.string("rope_type", parameters.string("type", "default")) != "yarn":
        return None
    context = config.integer("max_position_embeddings", 2048)
    original = parameters.integer("original_max_position_embeddings", context)
    factor = parameters.number("factor", min(context, MAX_SIZE) / max(1, original))
    weights = parameters.number("mscale", 0.0), parameters.number("mscale_all_dim", 0.0)
    stretched = yarn_magnitude(factor, weights[0]) / yarn_magnitude(factor, weights[1])
    return Yarn(
        factor=factor,
        original_context=original,
        beta_fast=parameters.number("beta_fast", 0.0) or 32.0,
        beta_slow=parameters.number("beta_slow", 0.0) or 1.0,
        magnitude=parameters.number("attention_factor", stretched if all(weights) else yarn_magnitude(factor)),
        whole=parameters.flag("truncate", True),
    )


def _windows(config: Metadata, family: str, count: int) -> list[int | None]:
    window = config.integer("sliding_window", 4096 if family in ("gemma2", "gemma3_text") else 0) or None
    if family.startswith(("qwen", "smollm")) and not config.flag("use_sliding_window", False):
        window = None
    if window is None or family in _NO_WINDOW:
        return [None] * count
    if config.has("layer_types") or family == "smollm3":
        return [window if kind == _SLIDING else None for kind in _kinds(config, count)]
    if family in ("gemma2", "gemma3_text"):
        return [window if local else None for local in _locals(config, family, count)]
    first = config.integer("max_window_layers", 0) if family in ("qwen2", "qwen3", "qwen2_moe") else 0
    return [window if i >= first else None for i in range(count)]


def _kinds(config: Metadata, count: int) -> list[str]:
    kinds = config.strings("layer_types")
    if len(kinds) != count:
        raise BadWeights(f"{config.where}: layer_types has {len(kinds)} entries for {count} layers")
    for kind in kinds:
        if kind not in (_FULL, _SLIDING):
            raise UnsupportedModel(f"layer_types: {kind[:40]!r} is not supported")
    return kinds


def _locals(config: Metadata, family: str, count: int) -> list[bool]:
    """Which of Gemma's layers are local; files that do not say have one global layer in 2 or, since Gemma 3, in 6."""
    if config.has("layer_types"):
        return [kind == _SLIDING for kind in _kinds(config, count)]
    pattern = config.integer("_sliding_window_pattern", 2 if family == "gemma2" else 6)
    pattern = max(1, config.integer("sliding_window_pattern", pattern))
    return [(i + 1) % pattern != 0 for i in range(count)]


def _second_ropes(config: Metadata, family: str, count: int) -> list[bool]:
    if family == "gemma3_text":
        return _locals(config, family, count)
    if family != "smollm3":
        return [False] * count
    if config.has("no_rope_layers"):
        turning = config.integers("no_rope_layers")
        if len(turning) != count:
            raise BadWeights(f"{config.where}: no_rope_layers has {len(turning)} entries for {count} layers")
        return [turn == 0 for turn in turning]
    interval = max(1, config.integer("no_rope_layer_interval", 4))
    return [(i + 1) % interval == 0 for i in range(count)]
