"""Writes a tiny Hugging Face model as a GGUF file, in the order in which that format stores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import quantize

from tests.unit.local_runtime.tiny import CHATML, SPECIAL, byte_tokenizer

MERGES = ["h e"]
ARCHITECTURES = {"mixtral": "llama", "gemma3_text": "gemma3", "qwen2_moe": "qwen2moe"}
BETWEEN = {
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}
NAMES = {
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.qkv_proj.weight": "attn_qkv.weight",
    "mlp.gate_up_proj.weight": "ffn_up.weight",
    "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight",
    "mlp.shared_expert_gate.weight": "ffn_gate_inp_shexp.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.experts.gate_up_proj": "experts",
    "mlp.experts.down_proj": "ffn_down_exps.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
}


def write_gguf(reference: Any, path: Path, *, quantisation: str = "F32") -> None:
    """Save `reference`, of an architecture that our reader knows, with all matrices in one quantisation."""
    config = reference.config
    arch = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(str(path), arch)
    _add_metadata(writer, config)
    _add_tokenizer(writer)
    for name, tensor in _tensors(reference, permuted=arch == "llama"):
        kind = gguf.GGMLQuantizationType[quantisation if tensor.ndim > 1 else "F32"]
        writer.add_tensor(name, quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_metadata(writer: Any, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if experts := getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if getattr(config, "moe_intermediate_size", 0):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if getattr(config, "shared_expert_intermediate_size", 0):
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    _add_gemma(writer, config)


def _add_gemma(writer: Any, config: Any) -> None:
    """Windows, caps and the second rotation of Gemma 2 and 3."""
    if config.model_type in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
        if cap := config.attn_logit_softcapping:
            writer.add_attn_logit_softcapping(cap)
        if cap := config.final_logit_softcapping:
            writer.add_final_logit_softcapping(cap)
    if config.model_type == "gemma3_text":
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
        writer.add_float32("gemma3.rope.freq_base_swa", config.rope_parameters["sliding_attention"]["rope_theta"])


def _add_tokenizer(writer: Any) -> None:
    tokens = [byte_tokenizer().id_to_token(i) for i in range(258)]
    tokens[0] = "he"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(257)
    writer.add_chat_template(CHATML)


def _tensors(reference: Any, *, permuted: bool) -> list[tuple[str, np.ndarray[Any, Any]]]:
    state = {name: tensor.detach() for name, tensor in reference.state_dict().items()}
    out = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
    ]
    if not reference.config.tie_word_embeddings:
        out.append(("output.weight", state["lm_head.weight"]))
    called = NAMES | BETWEEN if "model.layers.0.pre_feedforward_layernorm.weight" in state else NAMES
    for name, tensor in state.items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            out += _layer_tensors(f"blk.{layer}.", called[rest], tensor, reference.config, permuted)
    if reference.config.model_type.startswith("gemma"):
        out = [(name, tensor + 1 if name.endswith("norm.weight") else tensor) for name, tensor in out]
    return [(name, np.ascontiguousarray(tensor.numpy())) for name, tensor in out]


def _layer_tensors(prefix: str, name: str, tensor: Any, config: Any, permuted: bool) -> list[tuple[str, Any]]:
    if name == "experts":
        gate, up = tensor.chunk(2, dim=1)
        return [(prefix + "ffn_gate_exps.weight", gate), (prefix + "ffn_up_exps.weight", up)]
    if name == "ffn_gate_inp_shexp.weight":
        return [(prefix + name, tensor[0])]
    if permuted and name in ("attn_q.weight", "attn_k.weight"):
        heads = config.num_attention_heads if "q" in name.split("_")[1] else config.num_key_value_heads
        halves = tensor.reshape(heads, 2, -1, tensor.shape[1])
        tensor = torch.transpose(halves, 1, 2).reshape(tensor.shape)
    return [(prefix + name, tensor)]
