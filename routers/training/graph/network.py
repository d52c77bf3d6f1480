"""The network: an inductive heterogeneous graph of queries, latent skills and models, in torch-geometric.

Edges: model - model (likeness of cards), skill -> model (sufficient statistics of what the model did at the skill),
skill -> query (membership), and fine node -> query (what was observed near it). Every aggregation is a mean. With
h = relu(W x + mean over skills of V s), e = the model's encoding and v = 1 / the variance of a model's scores:

    logit  = c logit(usual) + h.w + (h Z).e + v (a common + b own + f fine + k skill)
    tokens = usual + h.w' + (h Z').e + a' linear + f' fine + k' skill

`usual` is the model's mean after shrinkage to its card's prior. It forecasts outcomes of all pairs, never a winner.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from routers.graph_nodes import VARIANCE_FLOOR

with warnings.catch_warnings():
    # Importing it calls what torch has deprecated since.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import MessagePassing  # type: ignore[import-untyped] # has no annotations

EDGE_FACTS = 3  # residual of the score, of the log tokens, how far they rest on outcomes
# Where the mixing weights begin, in the order of the formulas above.
MIXING = (0.8, 0.6, 0.3, 0.2, 0.8, 0.3, 0.1)
SCALE = 0.2


@dataclass(frozen=True, slots=True)
class ModelNodes:
    """State of M models: usual score and log tokens [M], blended residuals at the skills [M, K], reliability [M, K]."""

    usual: Tensor
    usual_tokens: Tensor
    skill: Tensor
    skill_tokens: Tensor
    reliability: Tensor


@dataclass(frozen=True, slots=True)
class QueryNodes:
    """State of Q queries: columns [Q, P], membership of skills [Q, K], what is remembered: [Q, 1] and [Q, M] each."""

    columns: Tensor
    membership: Tensor
    common: Tensor
    own: Tensor
    fine: Tensor
    tokens: Tensor
    fine_tokens: Tensor


@dataclass(frozen=True, slots=True)
class Told:
    """Forecasts [Q, M]: logits of the score beyond the usual one, log tokens beyond the usual, what softplus
    makes the gap to the logarithm of the 90th percentile; and the usual logit [M]."""

    deviation: Tensor
    tokens: Tensor
    gap: Tensor
    bias: Tensor


_State = TypeVar("_State", ModelNodes, QueryNodes, Told)


def _moved(state: _State, device: torch.device) -> _State:
    return type(state)(*(getattr(state, one.name).to(device) for one in fields(state)))


class SkillToModel(MessagePassing):  # type: ignore[misc] # as above
    """Mean over a model's skill edges of relu(A s + B edge facts): [K, H] and [K x M, 3] to [M, H]."""

    def __init__(self, skills: int, hidden: int) -> None:
        super().__init__(aggr="mean")
        self.of_skill = nn.Linear(skills, hidden)
        self.of_edge = nn.Linear(EDGE_FACTS, hidden, bias=False)

    def forward(self, skills: Tensor, edge_index: Tensor, edge_facts: Tensor, models: int) -> Tensor:
        """Edges run from skill (row 0) to model (row 1)."""
        sent = self.of_skill(skills)
        return cast(Tensor, self.propagate(edge_index, x=(sent, None), facts=edge_facts, size=(len(skills), models)))

    def message(self, x_j: Tensor, facts: Tensor) -> Tensor:
        """One edge's message."""
        return f.relu(x_j + self.of_edge(facts))


class SkillToQuery(MessagePassing):  # type: ignore[misc] # as above
    """Weighted mean of the skills' states by membership: [K, H] to [Q, H]."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")  # the weights of a query sum to 1: a mean

    def forward(self, skills: Tensor, membership: Tensor) -> Tensor:
        """Membership [Q, K] is complete: every skill sends to every query."""
        queries, count = membership.shape
        edge_index = complete(count, queries).to(membership.device)
        sent = self.propagate(edge_index, x=(skills, None), weight=membership.reshape(-1, 1), size=(count, queries))
        return cast(Tensor, sent)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """One edge's message."""
        return weight * x_j


class KinToModel(MessagePassing):  # type: ignore[misc] # as above
    """Weighted mean of other models' figures by likeness of cards (weights of a model sum to 1): [M, C] to [M, C]."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")

    def forward(self, figures: Tensor, kin: Tensor) -> Tensor:
        """`kin` [to, from]."""
        edge_index = complete(kin.shape[1], kin.shape[0])
        size = (kin.shape[1], kin.shape[0])
        return cast(Tensor, self.propagate(edge_index, x=(figures, None), weight=kin.reshape(-1, 1), size=size))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """One edge's message."""
        return weight * x_j


def complete(sources: int, targets: int) -> Tensor:
    """Edges from every source to every target, by target: [2, sources x targets]."""
    to, start = torch.meshgrid(torch.arange(targets), torch.arange(sources), indexing="ij")
    return torch.stack([start.reshape(-1), to.reshape(-1)])


class GraphNetwork(nn.Module):
    """See the file's docstring. `skills` [K, D] are the latent skills' centres, their states are learned from there."""

    skills: Tensor

    def __init__(self, skills: Tensor, columns: int, hidden: int = 32, rank: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("skills", skills)
        dimensions = skills.shape[1]
        self.first = nn.Linear(columns, hidden)
        self.of_skill = nn.Linear(dimensions, hidden, bias=False)
        self.to_query = SkillToQuery()
        self.to_model = SkillToModel(dimensions, hidden)
        self.encode = nn.Linear(hidden, rank)
        self.dropout = nn.Dropout(dropout)
        self.whole = nn.Linear(hidden, 3)  # deviation, tokens, gap whatever the model
        self.latent = nn.Linear(hidden, 2 * rank, bias=False)
        self.mixing = nn.Parameter(torch.tensor(MIXING))
        self.stretch = nn.Parameter(torch.tensor(1.0))
        self.model_gap = nn.Linear(rank, 1)
        with torch.no_grad():
            self.first.weight.normal_(0.0, SCALE)
            self.first.weight[:, dimensions:].mul_(2.0)
            self.of_skill.weight.normal_(0.0, 0.3)
            for layer in (self.whole, self.latent):
                layer.weight.mul_(0.1)
            self.whole.bias.copy_(torch.tensor([0.0, 0.0, -0.5]))

    def encoding(self, models: ModelNodes) -> Tensor:
        """[M, rank], from the models' edges to skills."""
        count, skills = models.skill.shape
        facts = torch.stack([4 * models.skill, models.skill_tokens, models.reliability], dim=-1)
        edges = complete(skills, count).to(self.skills.device)
        return cast(Tensor, self.encode(self.to_model(self.skills, edges, facts.reshape(-1, EDGE_FACTS), count)))

    def hidden(self, queries: QueryNodes) -> Tensor:
        """[Q, H]."""
        sent = self.to_query(self.of_skill(self.skills), queries.membership)
        return cast(Tensor, self.dropout(f.relu(self.first(queries.columns) + sent)))

    def forward(self, queries: QueryNodes, models: ModelNodes) -> Told:
        """Forecasts of all pairs, where the states are; the weights may be on another device."""
        here, there = queries.columns.device, self.stretch.device
        if here == there:
            return self._told(queries, models)
        return _moved(self._told(_moved(queries, there), _moved(models, there)), here)

    def _told(self, queries: QueryNodes, models: ModelNodes) -> Told:
        states, codes = self.hidden(queries), self.encoding(models)
        whole = self.whole(states)
        quality, tokens = (self.latent(states)).chunk(2, dim=1)
        usual = models.usual.clamp(0.02, 0.98)
        sharp = 1 / (usual * (1 - usual)).clamp(min=VARIANCE_FLOOR)
        mixing = f.relu(self.mixing)
        remembered = mixing[0] * queries.common + mixing[1] * queries.own + mixing[2] * queries.fine
        remembered = remembered + mixing[3] * (queries.membership @ models.skill.T)
        lengths = mixing[4] * queries.tokens + mixing[5] * queries.fine_tokens
        lengths = lengths + mixing[6] * (queries.membership @ models.skill_tokens.T)
        gap = self.model_gap(codes).reshape(1, -1) + whole[:, 2:3]
        return Told(
            deviation=whole[:, :1] + quality @ codes.T + sharp * remembered,
            tokens=whole[:, 1:2] + tokens @ codes.T + lengths,
            gap=gap,
            bias=self.stretch * torch.logit(usual),
        )
