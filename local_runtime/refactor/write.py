"""A mixture as a folder that the runtime loads: config.json, safetensors, the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from local_runtime.models.hf_config import REFACTORED
from local_runtime.models.packed import plain
from local_runtime.models.spec import ModelSpec
from local_runtime.models.transformer import Transformer
from local_runtime.refactor.refactor import Mixed, Recipe
from local_runtime.text.tokenizer import Tokenizer


def write_mixture(
    folder: Path, model: Transformer, layers: Sequence[Mixed], recipe: Recipe, tokenizer: Tokenizer, template: str
) -> None:
    """Write it in bfloat16; FileExistsError where the folder holds something."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in _tensors(model, layers).items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_config(model.spec, recipe), indent=1), "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config(tokenizer, template)), "utf-8")


def _tensors(model: Transformer, layers: Sequence[Mixed]) -> dict[str, torch.Tensor]:
    weights, spec = model.weights, model.spec
    tensors = {"model.embed_tokens.weight": weights.embed, "model.norm.weight": weights.norm}
    if not spec.tied_embeddings:
        tensors["lm_head.weight"] = plain(weights.head)
    wide, narrow = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    for i, (layer, mixed) in enumerate(zip(weights.layers, layers, strict=True)):
        at = f"model.layers.{i}."
        query, key, value = plain(layer.qkv).split([wide, narrow, narrow])
        tensors |= {
            at + "input_layernorm.weight": layer.attn_norm,
            at + "post_attention_layernorm.weight": layer.ffn_norm,
            at + "self_attn.q_proj.weight": _halves(query, spec.heads),
            at + "self_attn.k_proj.weight": _halves(key, spec.kv_heads),
            at + "self_attn.v_proj.weight": value,
            at + "self_attn.o_proj.weight": plain(layer.out),
            at + "mlp.gate.weight": mixed.router,
        }
        named = {f"experts.{e}": expert for e, expert in enumerate(mixed.experts)}
        for name, (gate, up, down) in (named | {"shared_expert": mixed.shared}).items():
            tensors |= {f"{at}mlp.{name}.gate_proj.weight": gate, f"{at}mlp.{name}.up_proj.weight": up}
            tensors[f"{at}mlp.{name}.down_proj.weight"] = down
    return {name: tensor for name, tensor in tensors.items() if tensor.numel()}


def _halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary pairs side by side as Hugging Face orders them, in two halves."""
    pairs = rows.view(heads, len(rows) // heads // 2, 2, -1)
    return pairs.transpose(1, 2).reshape(rows.shape)


def _config(spec: ModelSpec, recipe: Recipe) -> dict[str, Any]:
    width = (spec.intermediate - recipe.shared) // recipe.experts
    return {
        "model_type": REFACTORED,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.intermediate,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.context_tokens,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope.theta,
        "tie_word_embeddings": spec.tied_embeddings,
        "num_experts": recipe.experts,
        "num_experts_per_tok": recipe.active,
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": recipe.shared,
        "early_routers": recipe.early,
    }


def _tokenizer_config(tokenizer: Tokenizer, template: str) -> dict[str, Any]:
    ends = sorted(tokenizer.end_ids)
    named = {"eos_token": tokenizer.token_bytes(ends[0]).decode("utf-8", "replace")} if ends else {}
    return named | ({"chat_template": template} if template else {})
