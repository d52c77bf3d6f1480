"""Fits what early exits need on windows of text: maps by least squares, predictors by gradient descent. Minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from local_runtime.decoding.layers.speculative_exit import (
    CANDIDATES,
    FEATURES,
    Drafter,
    Exit,
    Reading,
    features,
)
from local_runtime.models.feed_forward import feed_forward
from local_runtime.models.packed import plain
from local_runtime.models.transformer import Transformer
from local_runtime.refactor.refactor import Windows

_ROWS = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """`layers` before which a token may leave; candidates are of the `frequent` most frequent tokens of the text.

    `inner`: units of a predictor; `ridge`: what is added to the diagonals of least squares, as a share of their mean.
    """

    layers: Sequence[int]
    frequent: int = 4096
    inner: int = 64
    steps: int = 300
    ridge: float = 1e-2


@dataclass(frozen=True, slots=True)
class Fitted:
    """Exits through which nothing leaves yet. The rest is of a quarter of the windows, to which nothing was fitted.

    `hits`: the share of tokens whose successor is a candidate; `agree`: by layer how often the likeliest token read
    there is the model's own; `judged`: by layer the predictor's outputs where that token is a candidate, and whether it
    is the model's own.
    """

    drafter: Drafter
    exits: Mapping[int, Exit]
    hits: float
    agree: Mapping[int, float]
    judged: Mapping[int, tuple[torch.Tensor, torch.Tensor]]

    def held(self, share: float) -> dict[int, Exit]:
        """Exits through which leaves what was right in such a share of cases."""
        return {at: replace(one, least=threshold(*self.judged[at], share)) for at, one in self.exits.items()}


def reading_of(model: Transformer) -> Reading:
    """The model's last norm and product."""
    spec, layer = model.spec, model.weights.layers[0]
    attention = plain(layer.qkv).numel() + plain(layer.out).numel()
    return Reading(model.weights, spec.norm_eps, attention + 3 * spec.hidden * spec.intermediate)


@torch.no_grad()
def states(model: Transformer, ids: torch.Tensor, layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """Hidden states [windows * length, hidden] before each of `layers`; the number of layers stands for behind all."""
    through, found = Windows(model, ids), dict[int, torch.Tensor]()
    for i, layer in enumerate(model.weights.layers):
        if i in layers:
            found[i] = through.hidden.clone()
        through.attend(i)
        through.hidden += feed_forward(layer.ffn, through.normed(layer), None)
    found[len(model.weights.layers)] = through.hidden
    return found


def fit(model: Transformer, ids: torch.Tensor, recipe: Recipe) -> Fitted:
    """From windows [windows, length], at least four; ValueError where there are fewer."""
    if len(ids) < 4:
        raise ValueError(f"{len(ids)} windows are too few: at least 4 are needed")
    reading, last = reading_of(model), len(model.weights.layers)
    found = states(model, ids, recipe.layers)
    cut = len(ids) * 3 // 4 * ids.shape[1]
    drafter, candidates = _drafter(model, ids, found[last], cut, recipe)
    goal = _likeliest(reading, found[last])
    local = torch.full((len(goal), CANDIDATES), 1 / CANDIDATES)
    exits, agree = dict[int, Exit](), dict[int, float]()
    judged = dict[int, tuple[torch.Tensor, torch.Tensor]]()
    for at in recipe.layers:
        solution = _least_squares(found[at][:cut], (found[last] - found[at])[:cut], recipe.ridge)
        mapped = Exit(solution, _nothing(), _nothing(), 2.0).mapped(found[at])
        told, local = features(_of_candidates(reading, mapped, candidates), local)
        token = _likeliest(reading, mapped)
        right, verified = token == goal, (candidates == token.unsqueeze(1)).any(dim=1)
        exits[at] = Exit(solution, *_predictor(told[:cut], (right & verified)[:cut], recipe), 2.0)
        some = verified[cut:]
        judged[at] = exits[at].sure(told[cut:])[some], right[cut:][some]
        agree[at] = float(right[cut:].float().mean())
    hits = float((candidates == goal.unsqueeze(1)).any(dim=1)[cut:].float().mean())
    return Fitted(drafter, exits, hits, agree, judged)


def threshold(sure: torch.Tensor, right: torch.Tensor, share: float) -> float:
    """The least output from which on such a share is right, of those with 20 tokens and more; 2 where there is none."""
    order = sure.argsort(descending=True)
    reached = right[order].float().cumsum(0) / torch.arange(1, len(order) + 1)
    good = (reached >= share).nonzero()[:, 0]
    good = good[good >= 20]
    return float(sure[order[good[-1]]]) if len(good) else 2.0


def _drafter(
    model: Transformer, ids: torch.Tensor, last: torch.Tensor, cut: int, recipe: Recipe
) -> tuple[Drafter, torch.Tensor]:
    """And its candidates for every token [windows * length, CANDIDATES]."""
    embedded = model.weights.embed[ids].float().flatten(0, 1) * model.spec.embed_scale
    before = last.view(*ids.shape, -1).roll(1, dims=1)
    before[:, 0] = 0
    before = before.flatten(0, 1)
    solution = _least_squares(torch.cat([before, embedded], dim=1)[:cut], last[:cut], recipe.ridge)
    counts = torch.bincount(ids.flatten()[:cut], minlength=model.vocab_size)
    frequent = counts.argsort(descending=True, stable=True)[: recipe.frequent]
    drafter = Drafter(solution, frequent, plain(model.weights.head)[frequent].float())
    pairs = zip(before.split(_ROWS), embedded.split(_ROWS), strict=True)
    return drafter, torch.cat([drafter.candidates(reading_of(model), *pair) for pair in pairs])


def _least_squares(inward: torch.Tensor, goal: torch.Tensor, ridge: float) -> torch.Tensor:
    """[inward + 1, goal], held a little."""
    ones = torch.cat([inward, torch.ones(len(inward), 1)], dim=1).double()
    square = ones.T @ ones
    held = square + ridge * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
    solution: torch.Tensor = torch.linalg.solve(held, ones.T @ goal.double())
    return solution.float()


def _likeliest(reading: Reading, hidden: torch.Tensor) -> torch.Tensor:
    head = plain(reading.weights.head)
    return torch.cat([reading.logits(rows, head).argmax(dim=-1) for rows in hidden.split(_ROWS)])


def _of_candidates(reading: Reading, hidden: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Logits [rows, CANDIDATES] of candidates [rows, CANDIDATES]."""
    norm, head = reading.weights.norm, plain(reading.weights.head)
    normed = functional.rms_norm(hidden, norm.shape, norm, reading.eps).float()
    return (head[candidates].float() @ normed.unsqueeze(-1)).squeeze(-1)


def _predictor(
    told: torch.Tensor, right: torch.Tensor, recipe: Recipe
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(recipe.inner, FEATURES), (recipe.inner,), (1, recipe.inner), (1,)]
    parts = [torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for shape in shapes]
    for part in parts:
        part.requires_grad_()
    stepper = torch.optim.Adam(parts, lr=0.01)
    for _ in range(recipe.steps):
        stepper.zero_grad()
        inside = functional.relu(functional.linear(told, parts[0], parts[1]))
        outward = functional.linear(inside, parts[2], parts[3])[:, 0]
        functional.binary_cross_entropy_with_logits(outward, right.float()).backward()
        stepper.step()
    one, two, three, four = (part.detach() for part in parts)
    return (one, two), (three, four)


def _nothing() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, FEATURES), torch.zeros(1)
