"""Adapters as the native kernels read them. Knows no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from local_runtime.adapters.base import Adapter, Floats
from local_runtime.adapters.fused import PRODUCTS, Fused, fused, rotary_rows
from local_runtime.kernels import abi
from local_runtime.kernels.packing import in_turns
from local_runtime.models.spec import ModelSpec

Spans = npt.NDArray[np.int32]
# A gated item reads four strips of rows.
_ROWS = 4 * abi.LANES


class NativeLora:
    """One adapter's products in float32; `table` is what a segment points to, good as long as this lives."""

    def __init__(self, spec: ModelSpec, adapter: Adapter) -> None:
        width = spec.intermediate
        rows = rotary_rows(spec) | {
            "gate_proj": in_turns(width, 0).astype(np.int64),
            "up_proj": in_turns(width, 1).astype(np.int64),
        }
        self._kept: list[Floats | Spans] = []
        self._layers = (abi.Lows * len(spec.layers))()
        ranks = 0
        for i, layer in enumerate(self._layers):
            for name in PRODUCTS:
                if one := fused(adapter, i, name, rows):
                    setattr(layer, name, self._low(one))
                    ranks = max(ranks, len(one.owners))
        self.table = abi.Adapter(layers=self._layers, most_ranks=ranks)

    def _low(self, one: Fused) -> abi.Low:
        ranks, cols = one.down.shape
        width = -(-len(one.up) // _ROWS) * _ROWS
        down = self._padded(one.down, (ranks, -(-cols // abi.GROUP) * abi.GROUP))
        up = self._padded(one.up.T, (ranks, width))
        spans = _spans(up)
        self._kept.append(spans)
        return abi.Low(down=down.ctypes.data, up=up.ctypes.data, spans=spans.ctypes.data, ranks=ranks, width=width)

    def _padded(self, values: Floats, shape: tuple[int, int]) -> Floats:
        kept = np.zeros(shape, dtype=np.float32)
        kept[: values.shape[0], : values.shape[1]] = values
        self._kept.append(kept)
        return kept


def _spans(up: Floats) -> Spans:
    """Of every 16 columns of [ranks, width], the first and the end of the ranks that are not 0 there."""
    used: npt.NDArray[np.bool_] = (up.reshape(len(up), -1, abi.LANES) != 0).max(axis=2)
    first, last = used.argmax(axis=0), len(up) - used[::-1].argmax(axis=0)
    return np.ascontiguousarray(np.stack([first, np.where(used.any(axis=0), last, first)], axis=1), dtype=np.int32)
