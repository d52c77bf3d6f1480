"""The training loop: one network a fold, stopped early on the fold that it does not learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as f

from routers.artifact import Array
from routers.training.checkpoint import Checkpoint
from routers.training.dataset import Doubles, Indices
from routers.training.graph.material import Material
from routers.training.graph.memory import Recalled
from routers.training.graph.network import GraphNetwork, Told
from routers.training.graph.sample import Rests, Statistics, draw, hide, model_nodes, query_nodes, tensor
from routers.training.graph.settings import Settings

TOKENS_WEIGHT = 0.2
_QUANTILES = (0.5, 0.9)


def train_member(
    made: Material, recalled: Recalled, fold: int, plan: Settings, seed: int, told: Callable[[float], None]
) -> GraphNetwork:
    """The network that learns from all folds but one and is best on that one."""
    torch.manual_seed(seed * 1009 + fold)
    rng = np.random.default_rng((seed, fold))
    inside, rows = np.flatnonzero(made.fold == fold), np.flatnonzero(made.fold != fold)
    rests = Rests.of(made, rows)
    edges = rests.statistics(made, rows)
    of_fold = {one: rests.statistics(made, np.flatnonzero(made.fold == one)) for one in np.unique(made.fold[rows])}
    strength = made.prior.strength(rests.usual)
    network = _network(made, plan).to(plan.device)
    optimiser = _optimiser(network, plan)
    best, kept, left = np.inf, copy.deepcopy(network.state_dict()), plan.patience
    for epoch in range(plan.epochs):
        for batch in _batches(made, rows, plan.batch, rng):
            visible = edges.without(of_fold[made.fold[batch[0]]])
            _step(network, optimiser, made, recalled, rests, visible, batch, rows, rng, strength)
        error = _error(network, made, recalled, rests, edges, inside)
        told((epoch + 1) / plan.epochs)
        if error < best - 1e-5:
            best, kept, left = error, copy.deepcopy(network.state_dict()), plan.patience
        else:
            left -= 1
            if not left:
                break
    network.load_state_dict(kept)
    return network.eval()


def kept_member(
    kept: Checkpoint, name: str, made: Material, recalled: Recalled, fold: int, plan: Settings, seed: int
) -> GraphNetwork:
    """What `train_member` gives: taken up where an interrupted run has trained it, else trained and kept."""

    def trained() -> dict[str, Array]:
        network = train_member(made, recalled, fold, plan, seed, lambda _: None)
        return {part: weights.cpu().numpy() for part, weights in network.state_dict().items()}

    weights = kept.stage(name, trained)
    network = _network(made, plan)
    network.load_state_dict({part: torch.from_numpy(found) for part, found in weights.items()})
    return network.eval()


def _network(made: Material, plan: Settings) -> GraphNetwork:
    return GraphNetwork(tensor(made.places.skills), made.columns.shape[1], plan.hidden, plan.rank, plan.dropout)


def _optimiser(network: GraphNetwork, plan: Settings) -> torch.optim.Optimizer:
    """The few weights that mix what is remembered move faster, and nothing draws them to 0."""
    few = [network.mixing, network.stretch]
    rest = [one for name, one in network.named_parameters() if name not in ("mixing", "stretch")]
    groups: list[dict[str, Any]] = [{"params": few, "lr": plan.mixing_rate, "weight_decay": 0.0}, {"params": rest}]
    return torch.optim.AdamW(groups, lr=plan.rate, weight_decay=plan.decay)


def _batches(made: Material, rows: Indices, size: int, rng: np.random.Generator) -> list[Indices]:
    """Batches of one fold each: the others' outcomes are the edges that it learns from."""
    found: list[Indices] = []
    for fold in np.unique(made.fold[rows]):
        mixed = rng.permutation(rows[made.fold[rows] == fold])
        found += np.array_split(mixed, max(len(mixed) // size, 1))
    return [found[place] for place in rng.permutation(len(found))]


def _step(
    network: GraphNetwork,
    optimiser: torch.optim.Optimizer,
    made: Material,
    recalled: Recalled,
    rests: Rests,
    visible: Statistics,
    batch: Indices,
    rows: Indices,
    rng: np.random.Generator,
    strength: float,
) -> None:
    """Learn a batch's pairs from edges that its fold's outcomes are no part of."""
    lot = draw(rng, len(made.cards), rows[made.fold[rows] != made.fold[batch[0]]])
    models, queries = hide(made, rests, model_nodes(rests, visible), query_nodes(made, recalled, batch), lot, strength)
    loss = _loss(network(queries, models), rests, made, batch, models.usual_tokens)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _loss(told: Told, rests: Rests, made: Material, rows: Indices, usual_tokens: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy on scores, pinball loss on log tokens; means over observed pairs."""
    seen = tensor(rests.seen[rows])
    score = tensor(np.nan_to_num(made.score[rows]))
    errors = f.binary_cross_entropy_with_logits(told.bias + told.deviation, score, reduction="none")
    loss = (errors * seen).sum() / seen.sum().clamp(min=1)
    known = tensor((~np.isnan(made.log_tokens[rows])).astype(np.float64))
    if not known.any():
        return loss
    length = tensor(np.nan_to_num(made.log_tokens[rows]))
    median = usual_tokens + told.tokens
    for level, forecast in zip(_QUANTILES, (median, median.detach() + f.softplus(told.gap)), strict=True):
        off = length - forecast
        pinball = torch.maximum(level * off, (level - 1) * off)
        loss = loss + TOKENS_WEIGHT * (pinball * known).sum() / known.sum()
    return loss


def _error(
    network: GraphNetwork, made: Material, recalled: Recalled, rests: Rests, edges: Statistics, rows: Indices
) -> float:
    network.eval()
    with torch.no_grad():
        models = model_nodes(rests, edges)
        told = network(query_nodes(made, recalled, rows), models)
        error = float(_loss(told, rests, made, rows, models.usual_tokens))
    network.train()
    return error


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What the members and the heads told of the rows that they did not learn from, [Q, M] each: deviations from the
    usual logit, and log tokens."""

    deviation: Doubles
    heads: Doubles
    tokens: Doubles


def held_out(members: list[GraphNetwork], made: Material, recalled: list[Recalled], heads: Doubles) -> Held:
    """Out-of-fold forecasts of all rows, before any shrinkage; the heads' are given."""
    deviation, tokens = np.empty_like(made.score), np.empty_like(made.score)
    for fold, network in enumerate(members):
        inside, rows = np.flatnonzero(made.fold == fold), np.flatnonzero(made.fold != fold)
        rests = Rests.of(made, rows)
        with torch.no_grad():
            told = network(query_nodes(made, recalled[fold], inside), model_nodes(rests, rests.statistics(made, rows)))
        deviation[inside] = told.deviation.numpy()
        tokens[inside] = told.tokens.numpy() + rests.usual_tokens
    return Held(deviation, heads, tokens)
