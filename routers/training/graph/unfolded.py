"""The trained networks themselves, asked as a graph with edges and messages: what the folded arrays must agree with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as f

from routers.graph_nodes import Remembered
from routers.graph_pool import BIAS, LOG_TOKENS, USUAL, Graph
from routers.inputs import Floats, Inputs
from routers.training.graph.network import GraphNetwork, ModelNodes, QueryNodes
from routers.training.graph.sample import edges_of, tensor


def unfolded(graph: Graph, members: list[GraphNetwork], inputs: Inputs) -> tuple[Floats, Floats, Floats]:
    """Quality, median and upper output tokens [Q, L] of the learned models, before the gate, by the networks."""
    learned = graph.table[: graph.learned]
    models = edges_of(graph)
    with torch.no_grad():
        queries = _placed(graph, graph.memory, inputs)
        told = [member(queries, ModelNodes(tensor(learned[:, USUAL]), *models)) for member in members]
        deviation = _mean([one.deviation for one in told])
        tokens, gap = _mean([one.tokens for one in told]), _mean([one.gap for one in told])
        common = deviation.mean(dim=1, keepdim=True)
        of_network, of_heads = graph.shrink
        logits = tensor(learned[:, BIAS]) + common + of_network * (deviation - common)
        logits = logits + of_heads * tensor(_known(graph, inputs) @ graph.memory.heads)
        median = torch.exp(tensor(learned[:, LOG_TOKENS]) + tokens)
        quality = torch.sigmoid(logits)
        high = median * torch.exp(f.softplus(gap))
    return quality.numpy(), median.numpy(), high.numpy()


def _placed(graph: Graph, memory: Remembered, inputs: Inputs) -> QueryNodes:
    """Query nodes with the messages of the fine nodes and of what is remembered as linear maps."""
    places = graph.places
    columns, weights = places.spread.columns(inputs), places.attention(inputs.embeddings @ places.fine.T)
    known = _known(graph, inputs)
    return QueryNodes(
        columns=tensor(columns),
        membership=tensor(places.membership(inputs)),
        common=tensor(known @ memory.common),
        own=tensor(known @ memory.own),
        fine=tensor(weights @ memory.fine),
        tokens=tensor(known @ memory.tokens),
        fine_tokens=tensor(weights @ memory.fine_tokens),
    )


def _known(graph: Graph, inputs: Inputs) -> Floats:
    """What linear maps see of queries: columns and a 1."""
    columns = graph.places.spread.columns(inputs)
    return np.concatenate([columns, np.ones((len(columns), 1), dtype=np.float32)], axis=1)


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(dim=0)
