"""What a decoder-only transformer is made of, as plain numbers. Knows no file format and no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from local_runtime.base import BadWeights

MAX_LAYERS = 1024
MAX_SIZE = 2**31 - 1
_MAX_FACTOR = 1e6


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Position interpolation: every rotary frequency divided by `factor` (arXiv:2306.15595)."""

    factor: float


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1's scaling: low frequencies divided by `factor`, high ones kept, a linear blend between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN (arXiv:2309.00071): pairs that turn less than `beta_slow` times in the original context are slowed by
    `factor`, those that turn more than `beta_fast` times kept, a linear blend between whose ends are whole pairs where
    `whole`. Turned elements are multiplied by `magnitude`."""

    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    magnitude: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Unturned:
    """No rotation: such layers know no positions (NoPE, arXiv:2305.19466)."""


Scaling = LinearScaling | Llama3Scaling | Yarn | Unturned


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding (arXiv:2104.09864) over the first `width` elements of a head (0: all of them).

    `interleaved` says how the *stored* q and k rows are ordered: pairs side by side (GGUF's llama) or in two halves
    (Hugging Face); the loader brings both to pairs.
    """

    theta: float
    interleaved: bool
    scaling: Scaling | None = None
    width: int = 0


@dataclass(frozen=True, slots=True)
class Moe:
    """Mixture of experts: `active` of `experts` SwiGLU blocks of width `intermediate` a token.

    `normalise` rescales the chosen router probabilities to sum to one; then they are multiplied by `scale`. Beside them
    every token takes one of width `shared` (0: none), weighted by a sigmoid of its own router where `shared_gate`.
    `even`: those chosen count alike. `early`: each router but the first reads what the sparse layer before it reads
    (Read-ME's pre-gating, arXiv:2410.19123), so that a layer's experts are known one layer ahead. Of `groups` of
    neighbouring experts only the `active_groups` with the likeliest expert are chosen from (arXiv:2405.04434, 2.2.2).
    A token takes no more experts than are as likely as `top_p` together (arXiv:2403.07652).
    """

    experts: int
    active: int
    intermediate: int
    normalise: bool
    scale: float = 1.0
    shared: int = 0
    shared_gate: bool = False
    even: bool = False
    early: bool = False
    groups: int = 1
    active_groups: int = 1
    top_p: float = math.inf


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (arXiv:2405.04434): keys and values of all heads come of one latent of `rank`
    elements a token, queries of one of `query_rank` (0: of hidden states).

    Queries and keys have `plain` elements a head, and `turned` ones with positions; those of keys are the same for all
    heads. `value`: of a head's values.
    """

    query_rank: int
    rank: int
    plain: int
    turned: int
    value: int

    @property
    def width(self) -> int:
        """What is kept of a token: elements a layer."""
        return self.rank + self.turned

    def check(self) -> None:
        """BadWeights names what can't be."""
        for name in ("rank", "plain", "turned", "value"):
            if not 0 < getattr(self, name) <= MAX_SIZE:
                raise BadWeights(f"latent attention: {name} = {getattr(self, name)} is out of range")
        if not 0 <= self.query_rank <= MAX_SIZE:
            raise BadWeights(f"latent attention: query_rank = {self.query_rank} is out of range")


@dataclass(frozen=True, slots=True)
class Layer:
    """What may differ from layer to layer: the attention window in tokens (None: all), whether it has experts, and
    whether its rotation is the model's second one."""

    window: int | None = None
    sparse: bool = False
    second_rope: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shape and arithmetic of one model; sizes in elements, `context_tokens` as trained.

    `qk_norm`: queries and keys are normalised, each head by itself or, with `qk_norm_whole`, all heads as one.
    `post_norms`: what attention and feed-forward give is normalised too (Gemma 2, arXiv:2408.00118). `norm_offset` is
    added to stored norm weights. `gelu`: gates go through GELU's tanh form instead of SiLU. Embeddings are multiplied
    by `embed_scale`, scores by `attn_scale` (0: head_dim to the power of -1/2). A cap c other than 0 makes
    c tanh(x / c) of scores or logits. With `latent`, heads attend to what is kept of a token, as one key-value head of
    `head_dim` elements.
    """

    family: str
    layers: tuple[Layer, ...]
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    context_tokens: int
    norm_eps: float
    rope: Rope
    tied_embeddings: bool
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    moe: Moe | None = None
    second_rope: Rope | None = None
    qk_norm_whole: bool = False
    post_norms: bool = False
    norm_offset: float = 0.0
    gelu: bool = False
    embed_scale: float = 1.0
    attn_scale: float = 0.0
    attn_cap: float = 0.0
    logit_cap: float = 0.0
    latent: Latent | None = None

    @property
    def rotary_dim(self) -> int:
        """Elements of a head that rotations are made for."""
        return self.latent.turned if self.latent else self.head_dim

    @property
    def kept_elements(self) -> int:
        """Of a token's keys and values, in each layer."""
        return self.latent.width if self.latent else 2 * self.kv_heads * self.head_dim

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """The model's rotation, and the second one if some layers have another."""
        return (self.rope,) if self.second_rope is None else (self.rope, self.second_rope)

    @property
    def score_scale(self) -> float:
        """What products of queries and keys are multiplied by."""
        return self.attn_scale or self.head_dim**-0.5

    def __post_init__(self) -> None:
        for name in ("hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab_size", "context_tokens"):
            if not 0 < getattr(self, name) <= MAX_SIZE:
                raise BadWeights(f"{name} = {getattr(self, name)} is out of range")
        if not 0 < len(self.layers) <= MAX_LAYERS:
            raise BadWeights(f"{len(self.layers)} layers are out of range")
        if self.heads % self.kv_heads:
            raise BadWeights(f"{self.heads} query heads do not divide among {self.kv_heads} key-value heads")
        if self.rotary_dim % 2:
            raise BadWeights(f"head_dim = {self.rotary_dim} is odd: rotary embedding needs pairs")
        if not 0 < self.norm_eps < 1:
            raise BadWeights(f"norm_eps = {self.norm_eps} is out of range")
        for rope in self.ropes:
            self._check_rope(rope)
        self._check_layers()
        self._check_factors()
        self._check_moe()

    def _check_layers(self) -> None:
        for i, layer in enumerate(self.layers):
            if layer.window is not None and not 0 < layer.window <= MAX_SIZE:
                raise BadWeights(f"the attention window {layer.window} of layer {i} is out of range")
            if layer.second_rope and self.second_rope is None:
                raise BadWeights(f"layer {i} asks for a second rotation that the model has not")

    def _check_factors(self) -> None:
        for name in ("embed_scale", "attn_scale", "attn_cap", "logit_cap"):
            if not 0 <= getattr(self, name) <= _MAX_FACTOR:
                raise BadWeights(f"{name} = {getattr(self, name)} is out of range")

    def _check_rope(self, rope: Rope) -> None:
        scaling = rope.scaling
        if not (rope.theta > 0 and math.isfinite(rope.theta)):
            raise BadWeights(f"rope theta = {rope.theta} is out of range")
        if rope.width % 2 or not 0 <= rope.width <= self.rotary_dim:
            raise BadWeights(f"{rope.width} rotary elements of heads of {self.rotary_dim} are out of range or odd")
        if (rope.width, rope.interleaved) != (self.rope.width, self.rope.interleaved):
            raise BadWeights("the two rotations of a model must pair the same elements")
        if isinstance(scaling, LinearScaling | Llama3Scaling | Yarn) and scaling.factor <= 0:
            raise BadWeights(f"rope scaling factor {scaling.factor} must be positive")
        if isinstance(scaling, Llama3Scaling) and not 0 < scaling.low_freq_factor < scaling.high_freq_factor:
            raise BadWeights("rope scaling: low_freq_factor must be positive and below high_freq_factor")
        if isinstance(scaling, Yarn):
            self._check_yarn(rope, scaling)

    def _check_yarn(self, rope: Rope, scaling: Yarn) -> None:
        if not 0 < scaling.beta_slow < scaling.beta_fast <= _MAX_FACTOR:
            raise BadWeights("rope scaling: beta_slow must be positive and below beta_fast")
        if not 0 < scaling.magnitude <= _MAX_FACTOR or not 0 < scaling.original_context <= MAX_SIZE or rope.theta <= 1:
            raise BadWeights("rope scaling: attention factor, original context or theta is out of range")

    def _check_moe(self) -> None:
        sparse = any(layer.sparse for layer in self.layers)
        if sparse != (self.moe is not None):
            raise BadWeights("sparse layers and a mixture of experts must come together")
        if self.moe and not 0 < self.moe.active <= self.moe.experts <= MAX_SIZE:
            raise BadWeights(f"{self.moe.active} active of {self.moe.experts} experts is out of range")
        if self.moe and not (0 < self.moe.intermediate <= MAX_SIZE and 0 <= self.moe.shared <= MAX_SIZE):
            raise BadWeights(f"expert width {self.moe.intermediate} or {self.moe.shared} is out of range")
        if self.moe:
            self._check_groups(self.moe)

    def _check_groups(self, moe: Moe) -> None:
        if not 0 < moe.active_groups <= moe.groups or moe.experts % moe.groups:
            raise BadWeights(f"{moe.active_groups} of {moe.groups} groups of {moe.experts} experts can't be")
        if moe.active > moe.experts // moe.groups * moe.active_groups:
            raise BadWeights(f"{moe.active_groups} groups have fewer than the {moe.active} active experts")
