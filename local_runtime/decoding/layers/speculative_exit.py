"""A token leaves early where a small predictor is sure enough of it (SpecEE, arXiv:2504.08850).

A few candidates for the next token are guessed before the first layer. At some layers the hidden state is read for
these only; their local probabilities, and how those have changed, tell a predictor whether to leave. Then all tokens
are read once: the likeliest has to be a candidate, else the rest of the layers is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from local_runtime.decoding.layers.base import Act, LayerPolicy
from local_runtime.models.packed import plain
from local_runtime.models.weights import ModelWeights

CANDIDATES = 4
FEATURES = 3 * CANDIDATES


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's last norm and product. `layer` is the multiply-adds of one layer."""

    weights: ModelWeights
    eps: float
    layer: int

    def logits(self, hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        """Of rows of last hidden states [rows, hidden], for the tokens of `head` [tokens, hidden]."""
        norm = self.weights.norm
        return functional.rms_norm(hidden.float(), norm.shape, norm, self.eps).float() @ head.float().T


@dataclass(frozen=True, slots=True)
class Drafter:
    """Guesses the last hidden state from the one before and the new token's embedding, as EAGLE (arXiv:2401.15077), by
    a linear map [2 * hidden + 1, hidden]; candidates are the likeliest of the `frequent` tokens (FR-Spec,
    arXiv:2502.14856)."""

    solution: torch.Tensor
    frequent: torch.Tensor
    head: torch.Tensor

    def candidates(self, reading: Reading, before: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """[rows, CANDIDATES] token ids, for rows of last hidden states and embeddings [rows, hidden]."""
        inward = torch.cat([before, embedded, torch.ones(len(before), 1)], dim=1)
        best = reading.logits(inward @ self.solution, self.head).topk(CANDIDATES, dim=-1).indices
        return self.frequent[best]


@dataclass(frozen=True, slots=True)
class Exit:
    """Of one layer: a linear map from the states before it to the last ones [hidden + 1, hidden], the predictor's two
    layers, and from which output on a token leaves."""

    solution: torch.Tensor
    inner: tuple[torch.Tensor, torch.Tensor]
    outer: tuple[torch.Tensor, torch.Tensor]
    least: float

    def mapped(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is read in place of the last hidden states [rows, hidden]."""
        return hidden + torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1) @ self.solution

    def sure(self, features: torch.Tensor) -> torch.Tensor:
        """Between 0 and 1, of rows of features [rows, FEATURES]."""
        inside = functional.relu(functional.linear(features, *self.inner))
        return functional.linear(inside, *self.outer).sigmoid()[:, 0]


def features(logits: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, FEATURES] of the candidates' logits and of their local probabilities at the exit before, both [rows,
    CANDIDATES]; and the local probabilities here."""
    local = logits.softmax(dim=-1)
    return torch.cat([logits / 10, local, local - before], dim=1), local


class SpeculativeExit(LayerPolicy):
    """Of one sequence."""

    def __init__(self, reading: Reading, drafter: Drafter, exits: Mapping[int, Exit]) -> None:
        self._reading = reading
        self._drafter = drafter
        self._exits = exits
        self._last: torch.Tensor | None = None
        self._candidates: torch.Tensor | None = None
        self._local = torch.zeros(1, CANDIDATES)
        self.spent = 0.0

    def of_token(self, layer: int, hidden: torch.Tensor) -> Act:
        """See LayerPolicy."""
        if layer == 0:
            self._draft(hidden)
        at = self._exits.get(layer)
        if at is None or self._candidates is None:
            return Act.COMPUTE
        mapped = at.mapped(hidden.unsqueeze(0))
        self._spend(at.solution.numel() + CANDIDATES * len(hidden))
        told, self._local = features(
            self._reading.logits(mapped, plain(self._reading.weights.head)[self._candidates]), self._local
        )
        if float(at.sure(told)) < at.least:
            return Act.COMPUTE
        token = self._reading.logits(mapped, plain(self._reading.weights.head)).argmax()
        if bool((self._candidates == token).any()):
            return Act.LEAVE
        self._spend(plain(self._reading.weights.head).numel())
        return Act.COMPUTE

    def read(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """See LayerPolicy."""
        return self._exits[layer].mapped(hidden.unsqueeze(0))[0]

    def ended(self, token: int, hidden: torch.Tensor) -> None:
        """See LayerPolicy."""
        self._last = hidden.clone()

    def _draft(self, embedded: torch.Tensor) -> None:
        self._local = torch.full((1, CANDIDATES), 1 / CANDIDATES)
        if self._last is not None:
            found = self._drafter.candidates(self._reading, self._last.unsqueeze(0), embedded.unsqueeze(0))
            self._candidates = found[0]
            self._spend(self._drafter.solution.numel() + self._drafter.head.numel())

    def _spend(self, products: int) -> None:
        self.spent += products / self._reading.layer
