"""Quantised matrices as torch multiplies them: its product with weights of 4 bits, for processors with AVX-512.

What a file holds in 4 bits is kept so; 8 bits are two numbers of 4, whose products are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from local_runtime.kernels.abi import GROUP, Q4, Q8
from local_runtime.kernels.packing import Bytes, Floats, Groups

# Rows of a matrix that torch packs come in these.
_ROWS = 16


@dataclass(frozen=True, slots=True)
class Packed:
    """The sum of matrices of 4 bits: each as torch orders its numbers, and scale and middle of each group,
    [cols / 32, rows, 2] in bfloat16: weight = (number - 8) * scale + middle."""

    parts: tuple[tuple[torch.Tensor, torch.Tensor], ...]


Matrix = torch.Tensor | Packed


def can_pack() -> bool:
    """Whether this torch and this processor have the product; elsewhere it would be slower than bfloat16's."""
    there = hasattr(torch, "_weight_int4pack_mm_for_cpu") and hasattr(torch, "_convert_weight_to_int4pack_for_cpu")
    return there and torch.backends.cpu.get_cpu_capability() == "AVX512"


def packable(groups: Sequence[Groups]) -> bool:
    """Whether these, one below the other, have sizes that torch packs."""
    return sum(len(one.q) for one in groups) % _ROWS == 0


def packed(groups: Sequence[Groups], order: torch.Tensor | None = None) -> Packed:
    """Matrices one below the other, rows in `order`. Scales are rounded to bfloat16."""
    q, scale, middle = (np.concatenate(some) for some in zip(*map(_numbers, groups), strict=True))
    if order is not None:
        rows = order.numpy()
        q, scale, middle = q[rows], scale[rows], middle[rows]
    if all(one.form == Q4 for one in groups):
        return Packed((_part(q, scale, middle + 8 * scale),))
    whole = middle + 136 * scale
    upper = _bfloat16(whole)
    return Packed((_part(q >> np.uint8(4), 16 * scale, upper), _part(q & np.uint8(15), scale, whole - upper)))


def product(x: torch.Tensor, matrix: Matrix, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [rows, cols] times the matrix transposed, plus the bias."""
    if isinstance(matrix, torch.Tensor):
        return functional.linear(x, matrix, bias)
    sums = [torch._weight_int4pack_mm_for_cpu(x, numbers, GROUP, scales) for numbers, scales in matrix.parts]
    found = sums[0] if len(sums) == 1 else sums[0] + sums[1]
    return found if bias is None else found + bias


def plain(matrix: Matrix) -> torch.Tensor:
    """The matrix as one of numbers; TypeError where it is packed: load in float32 for what needs it."""
    if isinstance(matrix, Packed):
        raise TypeError("a packed matrix: load the model with dtype float32 or bfloat16")
    return matrix


def _numbers(groups: Groups) -> tuple[Bytes, Floats, Floats]:
    """Numbers [rows, cols], scales that bfloat16 can say and what 0 stands for, [rows, cols / 32].

    What a scale loses is felt least in the middle of the numbers that are in use.
    """
    d = groups.d.astype(np.float32)
    m = d * -128 if groups.m is None else groups.m.astype(np.float32)
    used = {Q4: 8, Q8: 128}.get(groups.form) or (int(groups.q.max(initial=0)) + 1) / 2
    scale = _bfloat16(d)
    return groups.q, scale, m + used * (d - scale)


def _bfloat16(x: Floats) -> Floats:
    rounded: Floats = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    return rounded


def _part(q: Bytes, scale: Floats, middle: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch._convert_weight_to_int4pack_for_cpu(torch.from_numpy(q.astype(np.int32)), 1)
    both = torch.from_numpy(np.stack([scale.T, middle.T], axis=-1))
    return numbers, both.to(torch.bfloat16).contiguous()
