"""GraphRouter's network and its training (arXiv 2410.03834), as its published code does it; imports torch.

Query nodes [Q], model nodes [M], one edge from a query to each model that answered it. Messages go to models only, so
what a query is compared by never changes, and after training the models' vectors are constants.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the package still scripts some of its own classes
    from torch_geometric.nn import GeneralConv  # type: ignore[import-untyped] # has no types

Doubles = npt.NDArray[np.float64]

HIDDEN = 8
EDGE_FACTS = 3


@dataclass(frozen=True, slots=True)
class Graph:
    """Tensors of one training set: `queries` [Q, D], `models` [M, F], `edges` [2, E], `facts` [E, 3] (reward, cost,
    score), `best` [E]: 1 where the model is the query's first best."""

    queries: Tensor
    models: Tensor
    edges: Tensor
    facts: Tensor
    best: Tensor


@dataclass(frozen=True, slots=True)
class Course:
    """How to train: passes over the graph a step, steps, AdamW's rate, share of edges that are hidden and predicted."""

    steps: int
    masks: int = 2
    rate: float = 1e-3
    hidden_share: float = 0.5


class Network(nn.Module):
    """Two rounds of messages over nodes of width 2 h; the task's half is a constant, since tasks are not told here."""

    def __init__(self, query_width: int, model_width: int) -> None:
        super().__init__()
        width = 2 * HIDDEN
        self.query_align = nn.Linear(query_width, HIDDEN)
        self.task = nn.Parameter(torch.randn(HIDDEN) * 0.1)
        self.model_align = nn.Linear(model_width, width)
        self.edge_align = nn.Linear(EDGE_FACTS, EDGE_FACTS)
        self.first = GeneralConv(width, width, in_edge_channels=EDGE_FACTS)
        self.second = GeneralConv(width, width, in_edge_channels=EDGE_FACTS)
        self.norm_first, self.norm_second = nn.BatchNorm1d(width), nn.BatchNorm1d(width)

    def asked(self, queries: Tensor) -> Tensor:
        """Vectors of queries [Q, 2 h]."""
        return torch.cat([self.task.expand(len(queries), -1), self.query_align(queries)], dim=1)

    def answering(self, graph: Graph, visible: Tensor) -> Tensor:
        """Vectors of models [M, 2 h] after messages over the visible edges."""
        asked = self.asked(graph.queries)
        nodes = torch.cat([asked, self.model_align(graph.models)])
        edges = graph.edges[:, visible] + torch.tensor([[0], [len(asked)]])
        facts = torch.relu(self.edge_align(graph.facts[visible]))
        nodes = torch.relu(self.norm_first(self.first(nodes, edges, facts)))
        nodes = self.norm_second(self.second(nodes, edges, facts))
        answering: Tensor = nodes[len(asked) :]
        return answering


def train(
    graph: Graph, course: Course, seed: int, watch: Callable[[int, Network], None] = lambda step, network: None
) -> Network:
    """The network after its last step, `watch` called after every tenth; the same arguments give the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(graph.queries.shape[1], graph.models.shape[1])
        adam = torch.optim.AdamW(network.parameters(), lr=course.rate)
        for step in range(1, course.steps + 1):
            network.train()
            adam.zero_grad()
            losses = [_loss(network, graph, course.hidden_share) for _ in range(course.masks)]
            torch.stack(losses).mean().backward()
            adam.step()
            if step % 10 == 0 or step == course.steps:
                watch(step, network)
    return network


def folded(network: Network, graph: Graph) -> tuple[Doubles, Doubles]:
    """Weights [D, M] and bias [M] whose sigmoid is the network's edge score of any query, all edges visible."""
    network.eval()
    with torch.no_grad():
        models = network.answering(graph, torch.ones(graph.edges.shape[1], dtype=torch.bool)).double()
        of_task, of_query = models[:, :HIDDEN] / (2 * HIDDEN), models[:, HIDDEN:] / (2 * HIDDEN)
        weights = network.query_align.weight.double().T @ of_query.T
        bias = of_query @ network.query_align.bias.double() + of_task @ network.task.double()
    return weights.numpy(), bias.numpy()


def _loss(network: Network, graph: Graph, hidden_share: float) -> Tensor:
    """Cross-entropy of hidden edges, with messages over the others."""
    hidden = torch.rand(graph.edges.shape[1]) < hidden_share
    models = network.answering(graph, ~hidden)
    asked = network.asked(graph.queries)
    places = graph.edges[:, hidden]
    logits = (asked[places[0]] * models[places[1]]).mean(dim=1)
    return nn.functional.binary_cross_entropy_with_logits(logits, graph.best[hidden])
