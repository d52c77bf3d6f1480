"""Which projections of a model an adapter may change, and their shapes."""

from __future__ import annotations

from local_runtime.adapters.base import ATTENTION
from local_runtime.base import UnsupportedModel
from local_runtime.models.spec import ModelSpec


def shapes_of(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """Rows and columns of every projection; UnsupportedModel where the model has others."""
    if spec.latent is not None:
        raise UnsupportedModel(f"adapters for latent attention ({spec.family}) are not computed")
    wide, narrow = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    return {
        "q_proj": (wide, spec.hidden),
        "k_proj": (narrow, spec.hidden),
        "v_proj": (narrow, spec.hidden),
        "o_proj": (spec.hidden, wide),
        "gate_proj": (spec.intermediate, spec.hidden),
        "up_proj": (spec.intermediate, spec.hidden),
        "down_proj": (spec.hidden, spec.intermediate),
    }


def has(spec: ModelSpec, layer: int, target: str) -> bool:
    """Whether the layer's projection is a single matrix: a mixture's experts are many."""
    return layer < len(spec.layers) and (target in ATTENTION or not spec.layers[layer].sparse)
