"""Routers and output matrices, fitted to what the dense model does."""

from __future__ import annotations

import torch
from torch.nn import functional

_STEPS = 200
_BATCH = 4096
_RATE = 2e-3


def fitted_router(inputs: torch.Tensor, strength: torch.Tensor, active: int, seed: int = 0) -> torch.Tensor:
    """[experts, hidden] so that the `active` largest of `inputs` [tokens, hidden] x router are those of `strength`
    [tokens, experts]: a ridge regression of its logarithm, then logistic steps on which experts are among them."""
    logs = torch.log(strength + 1e-6)
    gram = inputs.T @ inputs
    ridge = 1e-2 * gram.diagonal().mean() * torch.eye(len(gram))
    router: torch.Tensor = torch.linalg.solve(
        gram + ridge, inputs.T @ (logs - logs.mean(1, keepdim=True))
    ).T.contiguous()
    labels = torch.zeros_like(strength).scatter_(1, strength.topk(active, dim=1).indices, 1.0)
    random = torch.Generator().manual_seed(seed)
    router.requires_grad_()
    steps = torch.optim.Adam([router], lr=_RATE)
    for _ in range(_STEPS):
        some = torch.randint(len(inputs), (_BATCH,), generator=random)
        scores = inputs[some] @ router.T
        best = scores.topk(min(active + 1, scores.shape[1]), dim=1).values
        bar = best[:, active - 1 :].mean(1, keepdim=True).detach()
        loss = functional.binary_cross_entropy_with_logits(scores - bar, labels[some])
        steps.zero_grad()
        loss.backward()
        steps.step()
    return router.detach()


def refitted(down: torch.Tensor, inside: torch.Tensor, wanted: torch.Tensor, strength: float) -> torch.Tensor:
    """`down` [hidden, neurons] moved so that `inside` [tokens, neurons] x down comes near `wanted` [tokens, hidden]:
    least squares, with `strength` of the mean square of a neuron holding each weight where it was."""
    gram = inside.T @ inside
    hold = strength * gram.diagonal().mean() * torch.eye(len(gram))
    moved: torch.Tensor = torch.linalg.solve(gram + hold, inside.T @ (wanted - inside @ down.T))
    return down + moved.T
