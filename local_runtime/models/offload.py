"""Layers whose experts come and go: rows are routed, experts fetched, and each computed as soon as it is there."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from local_runtime.experts.pool import ExpertPool
from local_runtime.experts.trace import Recorder
from local_runtime.kernels import abi
from local_runtime.kernels.library import Kernels
from local_runtime.models.native_experts import ExpertShape

# For how many sparse layers ahead a layer's rows are asked what they will want there.
LOOK_AHEAD: Final = 2


class Offload:
    """Of one native model; `tables` are its experts by layer; where they lie is written before they are computed."""

    def __init__(
        self,
        kernels: Kernels,
        tables: Mapping[int, ctypes.Array[abi.Expert]],
        shape: ExpertShape,
        active: int,
        pool: ExpertPool,
    ) -> None:
        self._library = kernels.library
        self._active = active
        self.tables = tables
        self.shape = shape
        self.recorder: Recorder | None = None
        self._sparse = sorted(tables)
        self._counts = {layer: len(table) for layer, table in tables.items()}
        self.pool = pool
        self._places = {layer: [0] * len(table) for layer, table in tables.items()}

    def through(self, context: int, rows: int, layers: Sequence[int]) -> None:
        """Take the rows of the step that has begun through these layers; ExpertLost where a file is gone."""
        dense: list[int] = []
        for layer in layers:
            if layer not in self._counts:
                dense.append(layer)
                continue
            self._dense(context, dense)
            dense = []
            self._through_one(context, rows, layer)
        self._dense(context, dense)

    def _dense(self, context: int, layers: list[int]) -> None:
        if layers:
            which = np.array(layers, dtype=np.int32)
            self._library.fp_layers(context, which.ctypes.data, len(which))

    def _through_one(self, context: int, rows: int, layer: int) -> None:
        chosen = np.empty((rows, self._active), dtype=np.int32)
        weights = np.empty((rows, self._active), dtype=np.float32)
        self._library.fp_route(context, layer, chosen.ctypes.data, weights.ctypes.data)
        if self.recorder is not None:
            self.recorder.saw(layer, chosen)
        counts = np.bincount(chosen[chosen >= 0], minlength=self._counts[layer])
        wanted = {int(expert): int(counts[expert]) for expert in counts.nonzero()[0]}
        try:
            arriving = self.pool.want(layer, wanted)
            self.pool.saw(layer, chosen, self._foreseen(context, rows, layer))
            self._library.fp_share(context, layer)
            for some in arriving:
                self._place(layer, some)
                ready = np.array(some, dtype=np.int32)
                self._library.fp_experts(context, layer, ready.ctypes.data, len(ready))
        finally:
            self.pool.done(layer)
        self._library.fp_mix(context)

    def _place(self, layer: int, experts: Sequence[int]) -> None:
        """Let the kernels know where these experts lie."""
        places = self._places[layer]
        for expert in experts:
            addresses = self.pool.address(layer, expert)
            if places[expert] != addresses[0]:
                places[expert] = addresses[0]
                self.tables[layer][expert] = self.shape.at(addresses)

    def _foreseen(self, context: int, rows: int, layer: int) -> dict[int, npt.NDArray[np.float32]]:
        """What the routers of the next sparse layers say to the rows as they are now: [rows, experts]."""
        at = self._sparse.index(layer) + 1
        foreseen = {}
        for later in self._sparse[at : at + LOOK_AHEAD]:
            foreseen[later] = np.empty((rows, self._counts[later]), dtype=np.float32)
            self._library.fp_foresee(context, later, foreseen[later].ctypes.data)
        return foreseen
