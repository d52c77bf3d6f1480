"""Adapters in the form that models compute: as many pairs as there are products, projections side by side in one.

A model multiplies by queries, keys and values at once, and by gate and up; so do its adapters: `down` lies below each
other, `up` on a diagonal of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from local_runtime.adapters.base import Adapter, Floats, Place
from local_runtime.models.rope import paired
from local_runtime.models.spec import ModelSpec

Rows = npt.NDArray[np.int64]
PRODUCTS: Final = MappingProxyType(
    {
        "qkv": ("q_proj", "k_proj", "v_proj"),
        "out": ("o_proj",),
        "gate_up": ("gate_proj", "up_proj"),
        "down": ("down_proj",),
    }
)


@dataclass(frozen=True, slots=True)
class Fused:
    """`down` [ranks, in], `up` [out, ranks]; `owners` [(member, place)], one for each of the ranks."""

    down: Floats
    up: Floats
    owners: tuple[tuple[int, Place], ...]


def fused(adapter: Adapter, layer: int, product: str, rows: dict[str, Rows]) -> Fused | None:
    """What an adapter adds to a product; None: nothing. `rows` says where the rows of each projection go."""
    blocks = list(_blocks(adapter, layer, product))
    if not blocks:
        return None
    total = max(int(rows[target].max()) + 1 for target in PRODUCTS[product])
    ups, owners = [], []
    for member, place, _, up in blocks:
        whole = np.zeros((total, up.shape[1]), dtype=np.float32)
        whole[rows[place[1]]] = up
        ups.append(whole)
        owners += [(member, place)] * up.shape[1]
    return Fused(np.concatenate([down for _, _, down, _ in blocks]), np.concatenate(ups, axis=1), tuple(owners))


def _blocks(adapter: Adapter, layer: int, product: str) -> Iterator[tuple[int, Place, Floats, Floats]]:
    for target in PRODUCTS[product]:
        for number, member in enumerate(adapter.members):
            if pair := member.pairs.get((layer, target)):
                yield number, (layer, target), pair.down, pair.up * np.float32(member.weight)


def rotary_rows(spec: ModelSpec) -> dict[str, Rows]:
    """Where rows of queries, keys and values go: q and k in rotary pairs, from Hugging Face's halves."""
    dim, wide, narrow = spec.head_dim, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    order = paired(replace(spec.rope, interleaved=False), dim)
    heads = np.arange(spec.heads + spec.kv_heads)[:, None] * dim
    turned = (heads + order).reshape(-1)
    return {
        "q_proj": turned[:wide],
        "k_proj": turned[wide:],
        "v_proj": wide + narrow + np.arange(narrow),
        "o_proj": np.arange(spec.hidden),
        "down_proj": np.arange(spec.hidden),
    }
