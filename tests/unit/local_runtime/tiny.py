"""Tiny random models in Hugging Face's own format, and a byte tokenizer, for tests that need real files."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers

from local_runtime.kv.cache import PagedCache
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Segment
from local_runtime.models.hf_config import spec_from_config
from local_runtime.models.names import HUGGING_FACE
from local_runtime.models.safetensors_source import SafetensorsSource
from local_runtime.models.torch_model import cache_shape
from local_runtime.models.transformer import Transformer
from local_runtime.models.weights import load_weights
from local_runtime.text.hf_tokenizer import read_json
from local_runtime.text.tokenizer import byte_of_character

PAGES_EACH = 320 // PAGE
SPECIAL = ["<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
PARTIAL_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
CAPS = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 7.0}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 8.0, "original_max_position_embeddings": 16}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 257,
    "pad_token_id": None,
    "initializer_range": 0.3,
}
MLA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "olmoe wide": {"num_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "hidden_size": 64},
    "llama": {},
    "llama tied": {"tie_word_embeddings": True, "rope_parameters": LINEAR_ROPE},
    "llama 3.1, biased": {"rope_parameters": LLAMA3_ROPE, "attention_bias": True, "mlp_bias": True},
    "mistral, window": {"sliding_window": 5},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "qwen3 half windowed": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1, "head_dim": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral, window": {"num_local_experts": 3, "sliding_window": 7},
    "qwen3_moe": {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [1],
        "head_dim": 8,
        "norm_topk_prob": True,
    },
    "qwen2_moe": {
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
    },
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 6, **CAPS},
    "gemma3_text": {
        "head_dim": 10,
        "query_pre_attn_scalar": 20,
        "sliding_window": 6,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": LINEAR_ROPE,
        },
        "final_logit_softcapping": 9.0,
    },
    "phi3": {"tie_word_embeddings": True},
    "phi3, window, partial": {"sliding_window": 9, "rope_parameters": PARTIAL_ROPE},
    "olmoe": {"num_experts": 5, "num_experts_per_tok": 2},
    "olmoe normalised": {"num_experts": 4, "num_experts_per_tok": 3, "norm_topk_prob": True},
    "deepseek_v2": MLA | {"q_lora_rank": None, "first_k_dense_replace": 1},
    "deepseek_v2 scaled, biased": MLA
    | {"q_lora_rank": 20, "routed_scaling_factor": 3.0, "rms_norm_eps": 1e-2, "attention_bias": True},
    "deepseek_v2, by groups": MLA
    | {
        "q_lora_rank": 20,
        "n_routed_experts": 8,
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "num_experts_per_tok": 3,
        "attention_bias": True,
        "rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 0.5, "beta_fast": 4.0},
    },
    "deepseek_v2 without a query latent": MLA
    | {"q_lora_rank": None, "attention_bias": True, "rope_parameters": YARN | {"truncate": False, "beta_slow": 0.3}},
    "smollm3": {"no_rope_layers": [1, 0, 1], "attention_bias": True},
    "smollm3 windowed": {
        "no_rope_layers": [1, 0, 1],
        "use_sliding_window": True,
        "sliding_window": 5,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "qwen3_moe raw weights": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8},
}
# Of random models some magnify what activations of 8 bits round away, more so the larger their weights are.
CALM = {"initializer_range": 0.2}
# Heads wide enough for the native kernels.
WIDE: dict[str, dict[str, Any]] = {
    "llama wide": {"head_dim": 16, "intermediate_size": 64},
    "llama wide, long": {"head_dim": 16, "intermediate_size": 64, "max_position_embeddings": 640},
    "llama wide, 3.1, biased": {
        "head_dim": 16,
        "rope_parameters": LLAMA3_ROPE,
        "attention_bias": True,
        "mlp_bias": True,
        "max_position_embeddings": 640,
    },
    "mistral wide, window": {"sliding_window": 21, "head_dim": 32, "tie_word_embeddings": True},
    "qwen2 wide": {"hidden_size": 64, "num_key_value_heads": 1},
    "qwen3": {"head_dim": 16},
    "qwen3 half windowed": FAMILIES["qwen3 half windowed"],
    "mixtral wide": {"num_local_experts": 5, "head_dim": 16, "intermediate_size": 64},
    "mixtral wide raw": {"num_local_experts": 5, "head_dim": 16, "intermediate_size": 64},
    "qwen3_moe wide": FAMILIES["qwen3_moe"] | {"moe_intermediate_size": 40, "head_dim": 16},
    "qwen2_moe wide": {
        "head_dim": 16,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 40,
        "norm_topk_prob": True,
        "hidden_size": 64,
    },
    "gemma wide": {"head_dim": 16, "intermediate_size": 64, "num_key_value_heads": 1, **CALM},
    "gemma2 wide": {"head_dim": 16, "intermediate_size": 64, "query_pre_attn_scalar": 16, "sliding_window": 21, **CAPS},
    "gemma3_text wide": FAMILIES["gemma3_text"]
    | {"head_dim": 16, "intermediate_size": 64, "query_pre_attn_scalar": 16, "sliding_window": 21},
    "phi3 wide": {"hidden_size": 64, "intermediate_size": 64, "sliding_window": 21},
    "phi3 wide, partial": {"hidden_size": 64, "intermediate_size": 64, "rope_parameters": PARTIAL_ROPE, **CALM},
    "smollm3 wide": {"hidden_size": 64, "no_rope_layers": [1, 0, 1], **CALM},
    "qwen3_moe wide raw": FAMILIES["qwen3_moe raw weights"] | {"moe_intermediate_size": 64, "head_dim": 32},
}
CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "mixtral": (transformers.MixtralConfig, transformers.MixtralForCausalLM),
    "qwen2_moe": (transformers.Qwen2MoeConfig, transformers.Qwen2MoeForCausalLM),
    "gemma": (transformers.GemmaConfig, transformers.GemmaForCausalLM),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    "gemma3_text": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
    "olmoe": (transformers.OlmoeConfig, transformers.OlmoeForCausalLM),
    "deepseek_v2": (transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM),
    "smollm3": (transformers.SmolLM3Config, transformers.SmolLM3ForCausalLM),
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
}


def save_tiny(name: str, folder: Path) -> Any:
    """Save the tiny model called `name` in FAMILIES with every parameter random; Hugging Face's model, for answers."""
    config_class, model_class = CLASSES[name.split(",", maxsplit=1)[0].split(" ", maxsplit=1)[0]]
    torch.manual_seed(len(name))
    config = config_class(**{**SIZES, **(FAMILIES | WIDE)[name]})
    # Hugging Face's other forms of attention leave out the cap on scores.
    config._attn_implementation = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    return model


def save_tokenizer(folder: Path) -> None:
    """tokenizer.json with one token a byte and the ChatML tokens after them."""
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def byte_tokenizer() -> tokenizers.Tokenizer:
    """Token id = byte value; 256 and 257 are the ChatML tokens."""
    vocabulary = dict(byte_of_character())
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)
    return backend


def segment(slot: int, start: int, ids: Sequence[int], logits: int = 0, adapter: int | None = None) -> Segment:
    """A segment of one of several sequences with 320 positions each."""
    pages = array("i", range(slot * PAGES_EACH, (slot + 1) * PAGES_EACH))
    return Segment(pages, start, ids, logits, adapter)


def load_tiny(folder: Path, slots: int = 4, dtype: torch.dtype = torch.float32) -> Transformer:
    """Our transformer from a saved folder."""
    spec = spec_from_config(read_json(folder / "config.json"))
    with SafetensorsSource(folder) as source:
        weights = load_weights(spec, HUGGING_FACE, source, dtype)
    return Transformer(spec, weights, PagedCache(cache_shape(spec, slots * PAGES_EACH), dtype))
