"""transformers as a worker: LlamaForCausalLM in eager mode, and the folder that it is loaded from."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.runtime.clock import Stopwatch
from benchmarks.runtime.serve import CHUNK, Answer, Logits, run

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Reference:
    """One model and a cache of keys and values that each prompt begins anew."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self._folder = folder
        self._dtype = dtype

    def bring(self) -> None:
        """Import torch and transformers."""
        self._torch = importlib.import_module("torch")
        self._transformers = importlib.import_module("transformers")
        importlib.import_module("transformers.models.llama.modeling_llama")

    def load(self) -> Answer:
        """Read the folder; the number format is converted on the way."""
        kind = self._transformers.LlamaForCausalLM
        self._model = kind.from_pretrained(self._folder, dtype=getattr(self._torch, self._dtype)).eval()
        return {"dtype": self._dtype, "attention": self._model.config._attn_implementation}

    def use_threads(self, threads: int) -> None:
        """Torch's threads."""
        self._torch.set_num_threads(threads)

    def prefill(self, tokens: Sequence[int], watch: Stopwatch) -> None:
        """One forward pass over the prompt."""
        watch.start()
        self._prompt(tokens)
        watch.stop()

    def decode(self, prompt: Sequence[int], count: int, watch: Stopwatch) -> int:
        """One forward pass a token: what `generate` does, without its bookkeeping."""
        token = self._prompt(prompt)
        watch.start()
        for _ in range(count):
            token = int(self._compute([token], 1)[-1].argmax())
        watch.stop()
        return count

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """Chunk by chunk."""
        self._cache = self._transformers.DynamicCache()
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK]
            yield self._compute(chunk, len(chunk)).float().numpy()

    def _prompt(self, tokens: Sequence[int]) -> int:
        self._cache = self._transformers.DynamicCache()
        return int(self._compute(tokens, 1)[-1].argmax())

    def _compute(self, tokens: Sequence[int], rows: int) -> Any:
        with self._torch.inference_mode():
            ids = self._torch.tensor([list(tokens)])
            made = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=rows)
        return made.logits[0]


def save(source: Path, folder: Path) -> None:
    """Write the dequantised tensors of a Llama GGUF as a float32 folder; q and k rows go back to Hugging Face's order.

    The GGUF keeps the two elements of a rotary pair side by side, Hugging Face keeps all first ones before all second.
    """
    import torch
    import transformers

    from local_runtime.models.gguf_source import GgufSource

    with GgufSource(source) as weights:
        facts = weights.file.metadata
        heads = int(facts["llama.attention.head_count"])
        config = transformers.LlamaConfig(
            vocab_size=weights.shape("token_embd.weight")[0],
            hidden_size=int(facts["llama.embedding_length"]),
            intermediate_size=int(facts["llama.feed_forward_length"]),
            num_hidden_layers=int(facts["llama.block_count"]),
            num_attention_heads=heads,
            num_key_value_heads=int(facts["llama.attention.head_count_kv"]),
            max_position_embeddings=int(facts["llama.context_length"]),
            rms_norm_eps=float(facts["llama.attention.layer_norm_rms_epsilon"]),
            rope_parameters={"rope_type": "default", "rope_theta": float(facts["llama.rope.freq_base"])},
            tie_word_embeddings=True,
        )
        half = config.hidden_size // heads // 2
        embed = weights.read("token_embd.weight", torch.float32)
        state = {
            "model.norm.weight": weights.read("output_norm.weight", torch.float32),
            "model.embed_tokens.weight": embed,
            "lm_head.weight": embed,
        }
        for name in (name for name in weights.names() if name.startswith("blk.")):
            _, layer, kind, _ = name.split(".")
            tensor = weights.read(name, torch.float32)
            if kind in {"attn_q", "attn_k"}:
                tensor = tensor.view(-1, half, 2, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
            state[f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight"] = tensor
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(state, strict=True)
    model.save_pretrained(folder)


def main() -> None:
    """`python -m benchmarks.runtime.model_transformers FOLDER [--dtype D] [--save GGUF]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    if given.save:
        save(given.save, given.folder)
    else:
        run(Reference(given.folder, given.dtype))


if __name__ == "__main__":
    main()
