"""X-LoRA's gate in torch (arXiv:2402.07148): how much of each member a token gets, from the base's hidden state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from local_runtime.adapters.base import Gate, Place


class TorchGate:
    """A few layers and what is made of their answer; see `Gate`."""

    def __init__(self, gate: Gate, members: int) -> None:
        self._gate = gate
        self._members = members
        self._layers = [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in gate.layers]

    def __call__(self, hidden: torch.Tensor) -> Mapping[Place, torch.Tensor]:
        """For every place [rows, members], of the base's normalised last hidden states [rows, hidden]."""
        said = hidden
        for i, (weight, bias) in enumerate(self._layers):
            said = functional.linear(said if i == 0 else said.relu(), weight, bias)
        places = self._gate.places
        if not self._gate.apart:
            return dict.fromkeys(places, self._shaped(said))
        shaped = self._shaped(said.unflatten(1, (len(places), self._members)))
        return {place: shaped[:, i] for i, place in enumerate(places)}

    def _shaped(self, said: torch.Tensor) -> torch.Tensor:
        gate = self._gate
        shares = (said / gate.temperature).softmax(dim=-1) if gate.softmax else said
        if gate.most is not None:
            best = shares.topk(gate.most, dim=-1).indices
            shares = torch.zeros_like(shares).scatter_(-1, best, shares.gather(-1, best))
        if gate.normalise:
            counted = shares.masked_fill(shares == 0, float("-inf"))
            shares = counted.softmax(dim=-1).masked_fill(shares == 0, 0.0)
        return shares * gate.scale
