"""Numbers in 2, 4 or 8 bits, with a scale and a lowest value for each group of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

WIDTHS: Final = (2, 4, 8)
GROUP: Final = 32


@dataclass(frozen=True, slots=True)
class Packed:
    """[..., n] as bytes [..., n * bits / 8] with float16 `scale` and `low` that spread over `shape`."""

    data: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor
    bits: int

    @property
    def bytes(self) -> int:
        """Memory of numbers, scales and lowest values."""
        return sum(one.numel() * one.element_size() for one in (self.data, self.scale, self.low))


def pack(x: torch.Tensor, bits: int, dim: int) -> Packed:
    """Round `x` [blocks, 32, head_dim] to `bits`; a group is 32 numbers along `dim`, 1 or 2 (or a whole narrow head).

    Keys differ by channel and go along dim 1 (tokens of a block), values along dim 2 (KIVI, arXiv:2402.02750).
    """
    shape = x.shape
    groups = x.float().unflatten(2, (-1, _wide(shape[2]))) if dim == 2 else x.float().unsqueeze(1)
    along = 3 if dim == 2 else 2
    low, high = groups.amin(along, keepdim=True).half(), groups.amax(along, keepdim=True).half()
    scale = ((high.float() - low.float()) / (2**bits - 1)).half().clamp_min(torch.finfo(torch.float16).tiny)
    whole = ((groups - low.float()) / scale.float()).round_().clamp_(0, 2**bits - 1).to(torch.uint8).view(shape)
    return Packed(_together(whole, bits), scale, low, bits)


def unpack(packed: Packed, dtype: torch.dtype) -> torch.Tensor:
    """[blocks, 32, head_dim] of what `pack` rounded."""
    whole = _apart(packed.data, packed.bits)
    per_channel = packed.scale.shape[1] == 1 and packed.scale.shape[2] == 1
    groups = whole.unsqueeze(1) if per_channel else whole.unflatten(2, (-1, _wide(whole.shape[2])))
    return (groups.float() * packed.scale.float() + packed.low.float()).to(dtype).view(whole.shape)


def joined(first: Packed, second: Packed) -> Packed:
    """Blocks of both, in order."""
    data, scale = torch.cat([first.data, second.data]), torch.cat([first.scale, second.scale])
    return Packed(data, scale, torch.cat([first.low, second.low]), first.bits)


def _wide(head_dim: int) -> int:
    return GROUP if head_dim % GROUP == 0 else head_dim


def _together(whole: torch.Tensor, bits: int) -> torch.Tensor:
    if bits == 8:
        return whole
    count = 8 // bits
    parts = whole.unflatten(-1, (-1, count))
    out: torch.Tensor = parts[..., 0].clone()
    for i in range(1, count):
        out |= parts[..., i] << (bits * i)
    return out


def _apart(data: torch.Tensor, bits: int) -> torch.Tensor:
    if bits == 8:
        return data
    parts = [(data >> (bits * i)) & (2**bits - 1) for i in range(8 // bits)]
    return torch.stack(parts, dim=-1).flatten(-2)
