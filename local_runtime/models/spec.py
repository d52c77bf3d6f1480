"""What a decoder-only transformer is made of, as plain numbers. Knows no file format and no torch."""

from __future__ import annotations

from dataclasses import dataclass

from local_runtime.base import BadWeights

MAX_LAYERS = 1024
MAX_SIZE = 2**31 - 1


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
class Rope:
    """Rotary position embedding (arXiv:2104.09864) over the whole head.

    `interleaved` says how the *stored* q and k rows are ordered: pairs side by side (GGUF's llama) or in two halves
    (Hugging Face); the loader brings both to pairs.
    """

    theta: float
    interleaved: bool
    scaling: LinearScaling | Llama3Scaling | None = None


@dataclass(frozen=True, slots=True)
class Moe:
    """Mixture of experts: `active` of `experts` SwiGLU blocks of width `intermediate` a token.

    `normalise` rescales the chosen router probabilities to sum to one; then they are multiplied by `scale`. Beside them
    every token takes one of width `shared` (0: none), weighted by a sigmoid of its own router where `shared_gate`.
    `even`: those chosen count alike. `early`: each router but the first reads what the sparse layer before it reads
    (Read-ME's pre-gating, arXiv:2410.19123), so that a layer's experts are known one layer ahead.
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


@dataclass(frozen=True, slots=True)
class Layer:
    """What may differ from layer to layer: the attention window in tokens (None: all) and whether it has experts."""

    window: int | None = None
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shape and arithmetic of one model; sizes in elements, `context_tokens` as trained."""

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

    def __post_init__(self) -> None:
        for name in ("hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab_size", "context_tokens"):
            if not 0 < getattr(self, name) <= MAX_SIZE:
                raise BadWeights(f"{name} = {getattr(self, name)} is out of range")
        if not 0 < len(self.layers) <= MAX_LAYERS:
            raise BadWeights(f"{len(self.layers)} layers are out of range")
        if self.heads % self.kv_heads:
            raise BadWeights(f"{self.heads} query heads do not divide among {self.kv_heads} key-value heads")
        if self.head_dim % 2:
            raise BadWeights(f"head_dim = {self.head_dim} is odd: rotary embedding needs pairs")
        if not (0 < self.norm_eps < 1 and self.rope.theta > 0):
            raise BadWeights(f"norm_eps = {self.norm_eps} or rope theta = {self.rope.theta} is out of range")
        self._check_scaling()
        self._check_moe()

    def _check_scaling(self) -> None:
        scaling = self.rope.scaling
        if scaling is not None and scaling.factor <= 0:
            raise BadWeights(f"rope scaling factor {scaling.factor} must be positive")
        if isinstance(scaling, Llama3Scaling) and not 0 < scaling.low_freq_factor < scaling.high_freq_factor:
            raise BadWeights("rope scaling: low_freq_factor must be positive and below high_freq_factor")

    def _check_moe(self) -> None:
        sparse = any(layer.sparse for layer in self.layers)
        if sparse != (self.moe is not None):
            raise BadWeights("sparse layers and a mixture of experts must come together")
        if self.moe and not 0 < self.moe.active <= self.moe.experts <= MAX_SIZE:
            raise BadWeights(f"{self.moe.active} active of {self.moe.experts} experts is out of range")
        if self.moe and not (0 < self.moe.intermediate <= MAX_SIZE and 0 <= self.moe.shared <= MAX_SIZE):
            raise BadWeights(f"expert width {self.moe.intermediate} or {self.moe.shared} is out of range")
