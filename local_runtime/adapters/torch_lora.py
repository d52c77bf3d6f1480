"""Adapters in torch: what they add to the rows of the sequences that wear them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from local_runtime.adapters.base import Adapter
from local_runtime.adapters.fused import PRODUCTS, Fused, fused, rotary_rows
from local_runtime.adapters.gate import TorchGate
from local_runtime.models.spec import ModelSpec


class TorchLora:
    """One adapter's products, in float32."""

    def __init__(self, spec: ModelSpec, adapter: Adapter) -> None:
        rows = rotary_rows(spec) | {
            "gate_proj": np.arange(spec.intermediate),
            "up_proj": spec.intermediate + np.arange(spec.intermediate),
        }
        found = {(i, name): fused(adapter, i, name, rows) for i in range(len(spec.layers)) for name in PRODUCTS}
        self._products = {key: _Product.of(one) for key, one in found.items() if one is not None}
        self.gate = TorchGate(adapter.gate, len(adapter.members)) if adapter.gate else None

    def added(self, layer: int, product: str, x: torch.Tensor, gates: Gates | None) -> torch.Tensor | None:
        """What is added for inputs [rows, in]; None: nothing."""
        one = self._products.get((layer, product))
        if one is None:
            return None
        inside = functional.linear(x.float(), one.down)
        if gates is not None:
            inside = inside * one.spread(gates)
        return functional.linear(inside, one.up)


Gates = Mapping[tuple[int, str], torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Product:
    down: torch.Tensor
    up: torch.Tensor
    owners: tuple[tuple[int, tuple[int, str]], ...]

    @classmethod
    def of(cls, one: Fused) -> _Product:
        return cls(torch.from_numpy(one.down), torch.from_numpy(one.up), one.owners)

    def spread(self, gates: Gates) -> torch.Tensor:
        """[rows, ranks] of what the gate says for each member [rows, members]."""
        return torch.stack([gates[place][:, member] for member, place in self.owners], dim=1)


@dataclass(frozen=True, slots=True)
class Worn:
    """Rows a..b wear an adapter, by as much as `gates` say."""

    a: int
    b: int
    lora: TorchLora
    gates: Gates | None = None


def put_on(worn: Sequence[Worn], layer: int, product: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Outputs [rows, out] of a product for inputs [rows, in], with what each row's adapter adds; `y` is changed."""
    for one in worn:
        rows = slice(one.a, one.b)
        if (added := one.lora.added(layer, product, x[rows], one.gates)) is not None:
            y[rows] = (y[rows].float() + added).to(y.dtype)
    return y
