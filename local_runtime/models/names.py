"""What each weight is called in each family of files. Knows names only; `{i}` is the layer, `{e}` the expert."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """One way of storing experts; `gate_up` is set where gate and up are one tensor.

    With `{e}` in the names every expert has its own matrices; without it one tensor [experts, rows, columns] holds all.
    `shared_gate`, `shared_up` and `shared_down` are of what every token takes beside them.
    """

    router: str
    down: str
    gate: str = ""
    up: str = ""
    gate_up: str = ""
    shared_gate: str = ""
    shared_up: str = ""
    shared_down: str = ""
    shared_router: str = ""


@dataclass(frozen=True, slots=True)
class LatentNames:
    """Of latent attention: what hidden states go through (`query_in` where queries have a latent), norms, ways back."""

    query_in: str
    query_norm: str
    query_up: str
    inward: str
    norm: str
    up: str


@dataclass(frozen=True, slots=True)
class TensorNames:
    """Names of everything outside the experts, and the ways experts may be stored, most common first.

    `qkv` and `gate_up` are tensors that may stand in place of three and of two. Where outputs of attention and
    feed-forward are normalised too, by `attn_post_norm` and `ffn_post_norm`, `ffn_norm` is called `ffn_norm_between`.
    """

    embed: str
    norm: str
    head: str
    attn_norm: str
    q: str
    k: str
    v: str
    out: str
    q_norm: str
    k_norm: str
    ffn_norm: str
    gate: str
    up: str
    down: str
    experts: tuple[ExpertNames, ...]
    rope_divisors: str = ""
    qkv: str = ""
    gate_up: str = ""
    attn_post_norm: str = ""
    ffn_post_norm: str = ""
    ffn_norm_between: str = ""
    latent: LatentNames | None = None

    def before_ffn(self, post_norms: bool) -> str:
        """The norm before the feed-forward: another name where outputs are normalised too."""
        return self.ffn_norm_between if post_norms else self.ffn_norm

    def fused_qkv(self, present: Collection[str], i: int) -> bool:
        """Whether the layer's queries, keys and values are one tensor."""
        return self.q.format(i=i) + ".weight" not in present and self.qkv.format(i=i) + ".weight" in present

    def fused_gate_up(self, present: Collection[str], i: int) -> bool:
        """Whether the layer's gate and up are one tensor."""
        return self.gate.format(i=i) + ".weight" not in present and self.gate_up.format(i=i) + ".weight" in present


_LAYER = "model.layers.{i}."
_MLP = _LAYER + "mlp."
_BLOCK = _LAYER + "block_sparse_moe."

_APART = ExpertNames(
    router=_MLP + "gate.weight",
    gate=_MLP + "experts.{e}.gate_proj.weight",
    up=_MLP + "experts.{e}.up_proj.weight",
    down=_MLP + "experts.{e}.down_proj.weight",
    shared_gate=_MLP + "shared_expert.gate_proj.weight",
    shared_up=_MLP + "shared_expert.up_proj.weight",
    shared_down=_MLP + "shared_expert.down_proj.weight",
    shared_router=_MLP + "shared_expert_gate.weight",
)
_FUSED = replace(_APART, gate="", up="", gate_up=_MLP + "experts.gate_up_proj", down=_MLP + "experts.down_proj")
# DeepSeek's.
_SEVERAL_SHARED = {
    "shared_gate": _MLP + "shared_experts.gate_proj.weight",
    "shared_up": _MLP + "shared_experts.up_proj.weight",
    "shared_down": _MLP + "shared_experts.down_proj.weight",
    "shared_router": "",
}

HUGGING_FACE = TensorNames(
    embed="model.embed_tokens.weight",
    norm="model.norm.weight",
    head="lm_head.weight",
    attn_norm=_LAYER + "input_layernorm.weight",
    q=_LAYER + "self_attn.q_proj",
    k=_LAYER + "self_attn.k_proj",
    v=_LAYER + "self_attn.v_proj",
    out=_LAYER + "self_attn.o_proj",
    q_norm=_LAYER + "self_attn.q_norm.weight",
    k_norm=_LAYER + "self_attn.k_norm.weight",
    ffn_norm=_LAYER + "post_attention_layernorm.weight",
    gate=_MLP + "gate_proj",
    up=_MLP + "up_proj",
    down=_MLP + "down_proj",
    experts=(
        ExpertNames(
            router=_BLOCK + "gate.weight",
            gate=_BLOCK + "experts.{e}.w1.weight",
            up=_BLOCK + "experts.{e}.w3.weight",
            down=_BLOCK + "experts.{e}.w2.weight",
        ),
        _APART,
        _FUSED,
        replace(_APART, **_SEVERAL_SHARED),
        replace(_FUSED, **_SEVERAL_SHARED),
    ),
    qkv=_LAYER + "self_attn.qkv_proj",
    gate_up=_MLP + "gate_up_proj",
    attn_post_norm=_LAYER + "post_attention_layernorm.weight",
    ffn_post_norm=_LAYER + "post_feedforward_layernorm.weight",
    ffn_norm_between=_LAYER + "pre_feedforward_layernorm.weight",
    latent=LatentNames(
        query_in=_LAYER + "self_attn.q_a_proj",
        query_norm=_LAYER + "self_attn.q_a_layernorm.weight",
        query_up=_LAYER + "self_attn.q_b_proj.weight",
        inward=_LAYER + "self_attn.kv_a_proj_with_mqa",
        norm=_LAYER + "self_attn.kv_a_layernorm.weight",
        up=_LAYER + "self_attn.kv_b_proj.weight",
    ),
)

GGUF = TensorNames(
    embed="token_embd.weight",
    norm="output_norm.weight",
    head="output.weight",
    attn_norm="blk.{i}.attn_norm.weight",
    q="blk.{i}.attn_q",
    k="blk.{i}.attn_k",
    v="blk.{i}.attn_v",
    out="blk.{i}.attn_output",
    q_norm="blk.{i}.attn_q_norm.weight",
    k_norm="blk.{i}.attn_k_norm.weight",
    ffn_norm="blk.{i}.ffn_norm.weight",
    gate="blk.{i}.ffn_gate",
    up="blk.{i}.ffn_up",
    down="blk.{i}.ffn_down",
    experts=(
        ExpertNames(
            router="blk.{i}.ffn_gate_inp.weight",
            gate="blk.{i}.ffn_gate_exps.weight",
            up="blk.{i}.ffn_up_exps.weight",
            down="blk.{i}.ffn_down_exps.weight",
            shared_gate="blk.{i}.ffn_gate_shexp.weight",
            shared_up="blk.{i}.ffn_up_shexp.weight",
            shared_down="blk.{i}.ffn_down_shexp.weight",
            shared_router="blk.{i}.ffn_gate_inp_shexp.weight",
        ),
    ),
    rope_divisors="rope_freqs.weight",
    qkv="blk.{i}.attn_qkv",
    gate_up="blk.{i}.ffn_up",
    attn_post_norm="blk.{i}.post_attention_norm.weight",
    ffn_post_norm="blk.{i}.post_ffw_norm.weight",
    ffn_norm_between="blk.{i}.ffn_norm.weight",
)
