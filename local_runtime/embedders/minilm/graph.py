"""BERT with mean pooling as an ONNX graph, built node by node; must not know how a dense layer is computed (forms.py)
nor what runs the graph.

Activations are kept as [tokens, hidden]; only attention sees [batch, tokens, hidden]. LayerNormalization stays a plain
node because ONNX Runtime's fused SkipLayerNormalization is some eight times slower on CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from local_runtime.embedders.minilm.package import BertShape
from local_runtime.embedders.minilm.quantise import Floats

MICROSOFT = "com.microsoft"
_OPSET = 18
_IR_VERSION = 9


class Graph:
    """A graph under construction; a value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype, order="C"), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.nodes_out(1, kind, *inputs, domain=domain, **attributes)[0]

    def nodes_out(self, outputs: int, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        names = [f"v{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names


class Form(Protocol):
    """How the two weight-bearing operations are written into a graph: exactly, or rounded."""

    def begin(self, graph: Graph, tokens: str) -> None:
        """Called once, before any `dense`, with a value of shape [tokens, hidden]."""

    def lookup(self, graph: Graph, table: Floats, ids: str) -> str:
        """Rows of a table."""

    def dense(self, graph: Graph, site: str, x: str, weight: Floats, bias: Floats) -> str:
        """x @ weight + bias, x [tokens, inputs]; `site` is `<layer>.` and `attention`, `mix`, `widen` or `narrow`."""


def build(
    tensors: Mapping[str, Floats], shape: BertShape, form: Form, extra: list[str], metadata: Mapping[str, str]
) -> ModelProto:
    """input_ids and attention_mask, int64 [batch, tokens] -> `vectors`, float32 [batch, hidden], unit norm.

    `extra` is read last: names of inner values, which the form may have noted, to give out as well.
    """
    graph = Graph()
    vectors = _Bert(graph, tensors, shape, form).vectors()
    graph.nodes.append(helper.make_node("Identity", [vectors], ["vectors"]))
    inputs = [_tensor(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")]
    outputs = [_tensor("vectors", TensorProto.FLOAT, ["batch", shape.hidden])]
    outputs += [_tensor(name, TensorProto.FLOAT, None) for name in extra]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "minilm", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=_IR_VERSION,
        producer_name="fingerpost",
    )
    helper.set_model_props(model, dict(metadata))
    return model


def _tensor(name: str, kind: int, dimensions: list[str | int] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dimensions)


class _Bert:
    """One pass over the layers, writing as it goes."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Floats], shape: BertShape, form: Form) -> None:
        self._graph, self._tensors, self._shape, self._form = graph, tensors, shape, form
        sizes = graph.node("Shape", "input_ids")
        self._flat = graph.constant([-1, shape.hidden], np.int64)
        self._batched = self._sizes(sizes, shape.hidden)
        self._batched_qkv = self._sizes(sizes, 3 * shape.hidden)
        self._mask = graph.node("Cast", "attention_mask", to=TensorProto.INT32)

    def vectors(self) -> str:
        graph = self._graph
        x = self._embedded()
        self._form.begin(graph, x)
        for layer in range(self._shape.layers):
            x = self._layer(layer, x)
        x = graph.node("Reshape", x, self._batched)
        axis = graph.constant([1], np.int64)
        weights = graph.node("Unsqueeze", graph.node("Cast", "attention_mask", to=TensorProto.FLOAT), axis)
        # The sum over real tokens; a mean differs by a factor that the unit norm removes.
        summed = graph.node("Squeeze", graph.node("MatMul", weights, x), axis)
        return graph.node("LpNormalization", summed, p=2, axis=1)

    def _embedded(self) -> str:
        graph, shape = self._graph, self._shape
        words = self._form.lookup(graph, self._tensors["embeddings.word_embeddings.weight"], "input_ids")
        places = self._tensors["embeddings.position_embeddings.weight"][: shape.window]
        places = places + self._tensors["embeddings.token_type_embeddings.weight"][0]
        length = graph.node("Shape", "input_ids", start=1, end=2)
        zero = graph.constant([0], np.int64)
        used = graph.node("Slice", graph.constant(places), zero, length, zero)
        flat = graph.node("Reshape", graph.node("Add", words, used), self._flat)
        return self._normalised("embeddings.LayerNorm", flat)

    def _layer(self, layer: int, x: str) -> str:
        graph, name = self._graph, f"encoder.layer.{layer}"
        mixed = self._dense(f"{layer}.mix", self._attention(layer, x), f"{name}.attention.output.dense")
        x = self._normalised(f"{name}.attention.output.LayerNorm", graph.node("Add", x, mixed))
        wide = self._dense(f"{layer}.widen", x, f"{name}.intermediate.dense")
        narrow = self._dense(f"{layer}.narrow", graph.node("Gelu", wide, domain=MICROSOFT), f"{name}.output.dense")
        return self._normalised(f"{name}.output.LayerNorm", graph.node("Add", x, narrow))

    def _attention(self, layer: int, x: str) -> str:
        graph, name = self._graph, f"encoder.layer.{layer}.attention.self"
        x = self._dense(f"{layer}.attention", x, f"{name}.query", f"{name}.key", f"{name}.value")
        q, k, v = graph.nodes_out(3, "Split", graph.node("Reshape", x, self._batched_qkv), axis=-1, num_outputs=3)
        heads = self._shape.heads
        seen = graph.node("MultiHeadAttention", q, k, v, "", self._mask, domain=MICROSOFT, num_heads=heads)
        return graph.node("Reshape", seen, self._flat)

    def _dense(self, site: str, x: str, *names: str) -> str:
        weight = np.concatenate([self._tensors[f"{name}.weight"].T for name in names], axis=1)
        bias = np.concatenate([self._tensors[f"{name}.bias"] for name in names])
        return self._form.dense(self._graph, site, x, weight, bias)

    def _normalised(self, name: str, x: str) -> str:
        scale = self._graph.constant(self._tensors[f"{name}.weight"])
        bias = self._graph.constant(self._tensors[f"{name}.bias"])
        return self._graph.node("LayerNormalization", x, scale, bias, epsilon=self._shape.epsilon, axis=-1)

    def _sizes(self, sizes: str, width: int) -> str:
        return self._graph.node("Concat", sizes, self._graph.constant([width], np.int64), axis=0)
