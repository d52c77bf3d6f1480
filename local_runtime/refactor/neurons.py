"""Which neurons of a feed-forward layer every token takes, and which go together as an expert."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Parts:
    """Neurons by number: `shared` [width], `experts` [experts, width]; each neuron is in one place."""

    shared: torch.Tensor
    experts: torch.Tensor

    def members(self, count: int) -> torch.Tensor:
        """1 where a neuron is an expert's: float32 [neurons, experts]."""
        found = torch.zeros(count, len(self.experts))
        for expert, neurons in enumerate(self.experts):
            found[neurons, expert] = 1
        return found


def shared_out(strength: torch.Tensor, shared: int, experts: int, seed: int = 0) -> Parts:
    """From how much each neuron contributes to each token, [tokens, neurons]: those that do most are for all, the
    others are clustered by when they contribute (balanced k-means on cosines)."""
    order = strength.mean(0).argsort(descending=True, stable=True)
    rest = order[shared:].sort().values
    centred = strength[:, rest] - strength[:, rest].mean(0)
    return Parts(order[:shared].sort().values, rest[_balanced(functional.normalize(centred.T, dim=1), experts, seed)])


def _balanced(points: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Row numbers of `count` clusters of the same size, [count, size]; those that know best choose first."""
    size = len(points) // count
    picked = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:count]
    centres = points[picked].clone()
    for _ in range(_ROUNDS):
        likeness = points @ centres.T
        clusters: list[list[int]] = [[] for _ in range(count)]
        wishes = likeness.argsort(dim=1, descending=True).tolist()
        for point in (likeness.max(1).values - likeness.mean(1)).argsort(descending=True, stable=True).tolist():
            clusters[next(one for one in wishes[point] if len(clusters[one]) < size)].append(point)
        members = torch.tensor(clusters)
        centres = functional.normalize(points[members].mean(1), dim=1)
    return members.sort(dim=1).values
