"""Two ways to write a weight-bearing operation into a graph: exact, and int8. Must know nothing of layers or attention.

The int8 form rounds activations with one scale *per token*, found as the graph runs. ONNX Runtime's own dynamic
quantisation takes one scale per tensor, so that a text's vector depends on what shares its batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from local_runtime.embedders.minilm.graph import MICROSOFT, Graph
from local_runtime.embedders.minilm.quantise import Floats, by_column, by_row, smoothing

_GELU_FLOOR = 0.17  # GELU never goes below -0.16997: shifted by this it is unsigned and gets all 255 levels


class ExactForm:
    """float32; notes what each dense layer reads, so that the int8 form can be fitted to it."""

    def __init__(self) -> None:
        self.sites: list[str] = []
        self.values: list[str] = []

    def begin(self, graph: Graph, tokens: str) -> None:
        """Nothing to prepare."""

    def lookup(self, graph: Graph, table: Floats, ids: str) -> str:
        return graph.node("Gather", graph.constant(table), ids)

    def dense(self, graph: Graph, site: str, x: str, weight: Floats, bias: Floats) -> str:
        self.sites.append(site)
        self.values.append(x)
        return graph.node("Add", graph.node("MatMul", x, graph.constant(weight)), graph.constant(bias))


class Int8Form:
    """int8 weights (one scale per output channel) times 8-bit activations (one scale per token), int32 sums.

    `peaks`: the largest magnitude seen at each input channel, by site; `levels`: 127, or 63 (quantise.HALF_RANGE).
    """

    def __init__(self, peaks: Mapping[str, Floats], levels: int) -> None:
        self._peaks = peaks
        self._levels = levels
        self._middles: dict[int, str] = {}

    def begin(self, graph: Graph, tokens: str) -> None:
        rows = graph.node("Shape", tokens, start=0, end=1)
        for middle in (0, 128):
            value = helper.make_tensor("middle", TensorProto.UINT8, [1], [middle])
            self._middles[middle] = graph.node("ConstantOfShape", rows, value=value)

    def lookup(self, graph: Graph, table: Floats, ids: str) -> str:
        rounded, scale = by_row(table)
        rows = graph.node("Cast", graph.node("Gather", graph.constant(rounded, np.int8), ids), to=TensorProto.FLOAT)
        return graph.node("Mul", rows, graph.node("Gather", graph.constant(scale), ids))

    def dense(self, graph: Graph, site: str, x: str, weight: Floats, bias: Floats) -> str:
        if site.endswith(".narrow"):
            return self._after_gelu(graph, x, weight, bias)
        if not site.endswith(".mix"):  # attention's output has no loud channels
            divisors = smoothing(self._peaks[site], weight)
            x = graph.node("Mul", x, graph.constant(1 / divisors))
            weight = weight * divisors[:, None]
        rounded, scale = by_column(weight, self._levels)
        product = self._product(graph, x, graph.node("Abs", x), 128, rounded, scale)
        return graph.node("Add", product, graph.constant(bias))

    def _after_gelu(self, graph: Graph, x: str, weight: Floats, bias: Floats) -> str:
        rounded, scale = by_column(weight, self._levels)
        x = graph.node("Add", x, graph.constant(_GELU_FLOOR))
        product = self._product(graph, x, x, 0, rounded, scale)
        return graph.node("Add", product, graph.constant(bias - _GELU_FLOOR * (rounded * scale).sum(axis=0)))

    def _product(self, graph: Graph, x: str, size: str, middle: int, rounded: np.ndarray, scale: Floats) -> str:
        axis = graph.constant([1], np.int64)
        step = graph.constant(1 / (255 - middle))
        token_scale = graph.node("Mul", graph.node("ReduceMax", size, axis, keepdims=0), step)
        coarse = graph.node("QuantizeLinear", x, token_scale, self._middles[middle], axis=0)
        one, zero_point = graph.constant(1.0), graph.constant(middle, np.uint8)
        weights = graph.constant(rounded, np.int8), one, graph.constant(scale), zero_point
        product = graph.node("MatMulIntegerToFloat", coarse, *weights, domain=MICROSOFT)
        return graph.node("Mul", product, graph.node("Unsqueeze", token_scale, axis))
