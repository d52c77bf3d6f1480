"""Trains the graph: cross-fitted members, shrinkage and gate from what they tell of rows they never saw, folding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from routers.artifact import Artifact
from routers.decision import FEATURES_VERSION
from routers.graph_nodes import Remembered, Weights
from routers.graph_pool import Graph
from routers.inputs import Floats
from routers.learned import Progress, silent
from routers.token_forecasts import mean_ratios
from routers.training.calibrate import half_width
from routers.training.checkpoint import Checkpoint
from routers.training.dataset import Dataset, Doubles
from routers.training.graph.heads import heads, heads_out_of_fold
from routers.training.graph.loop import Held, held_out, kept_member
from routers.training.graph.material import Material, material
from routers.training.graph.memory import Memory, out_of_fold, remember, tuned_reach
from routers.training.graph.network import GraphNetwork
from routers.training.graph.sample import Rests
from routers.training.graph.settings import Settings, settings_of
from routers.training.graph.shrink import (
    Market,
    best_limits,
    best_own,
    near_other_folds,
    quality_of,
    shares,
    shrunk,
)
from routers.training.novelty import spherical_clusters
from routers.training.union import union

# Which nearest fine node a query's familiarity is measured by, and how many parts of the space are left out in turn.
NEIGHBOUR = 5
_STRANGE_PARTS = 4
_STRANGE_EPOCHS = 12
_DEFAULT_OWN = 0.5
_FEWEST_TO_JUDGE = 100
_NOTHING_KEPT = Checkpoint(None, "")


def train_graph(
    train: Dataset, validation: Dataset | None, seed: int, settings: Mapping[str, Any], progress: Progress
) -> Artifact:
    """An artifact of kind `graph`; the same arguments give the same one. `ValueError` says what can't be used.

    Validation rows are learned from as well: what is tuned is tuned by cross-fitting.
    """
    given = {name: value for name, value in settings.items() if name != "checkpoint"}
    plan = settings_of(given)
    both = (
        train if validation is None or not len(validation) else union([train, validation], train.name, every_model=True)
    )
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)  # sums are then always in one order
    torch.use_deterministic_algorithms(True)
    try:
        learned = learn(both, plan, seed, progress, Checkpoint.of(settings.get("checkpoint"), both, given, seed))
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
    return _artifact(both, learned, seed, plan.device)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A folded graph, the networks that it was folded from, and where trust begins and ends."""

    graph: Graph
    members: list[GraphNetwork]
    gate: tuple[float, float, float]


def learn(
    data: Dataset,
    plan: Settings,
    seed: int,
    progress: Progress = silent,
    kept: Checkpoint = _NOTHING_KEPT,
) -> Learned:
    """Train, judge out of fold, fold; members that an interrupted run has `kept` are not trained again."""
    progress(0.0, "finding skills")
    made = tuned_reach(material(data, plan.skills, plan.nodes, seed))
    members, held = _cross_fitted(
        made, plan, seed, kept, "member", lambda share: progress(0.05 + 0.6 * share, "training the network")
    )
    memory = remember(made, np.arange(len(made)))
    own = plan.own
    if own is None:
        market = _market(made, held, memory)
        enough = len(made) >= _FEWEST_TO_JUDGE
        own = best_own(market, held.deviation, held.heads, memory.usual) if enough else _DEFAULT_OWN
    gate = _gate(made, plan, seed, own, memory, kept, lambda share: progress(0.65 + 0.3 * share, "leaving skills out"))
    progress(0.95, "folding")
    return Learned(_graph(made, members, memory, held, own), members, gate)


def _market(made: Material, held: Held, memory: Memory) -> Market:
    ratios, usual = mean_ratios(held.tokens, made.log_tokens), _usual_lengths(made, memory)
    return Market.of(made, held.tokens - memory.usual_tokens + usual + ratios, usual + ratios)


def _artifact(data: Dataset, learned: Learned, seed: int, device: str) -> Artifact:
    graph = learned.graph
    return Artifact(
        kind="graph",
        embedder=data.embedder,
        dimensions=data.inputs.embeddings.shape[1],
        features_version=FEATURES_VERSION,
        arrays={**graph.arrays(), "gate": np.array(learned.gate, dtype=np.float64)},
        facts={"models": list(graph.ids), "words": list(graph.prior.words), "own": sum(graph.shrink), "device": device},
        data={"name": data.name, "queries": len(data), "models": len(graph.ids)},
        seed=seed,
    )


def _cross_fitted(
    made: Material, plan: Settings, seed: int, kept: Checkpoint, name: str, told: Callable[[float], None]
) -> tuple[list[GraphNetwork], Held]:
    """A network for each fold, and what it tells of that fold."""
    members, recalled = [], []
    folds = int(made.fold.max()) + 1
    for fold in range(folds):
        told(fold / folds)
        recalled.append(out_of_fold(made, fold))
        members.append(kept_member(kept, f"{name}-{fold}", made, recalled[-1], fold, plan, seed))
    return members, held_out(members, made, recalled, heads_out_of_fold(made))


def _gate(
    made: Material,
    plan: Settings,
    seed: int,
    own: float,
    memory: Memory,
    kept: Checkpoint,
    told: Callable[[float], None],
) -> tuple[float, float, float]:
    """Neighbour and limits of trust, from queries whose part of the space was left out."""
    neighbour = min(NEIGHBOUR, len(made.places.fine))
    familiar = near_other_folds(made, made.fold, neighbour)
    parts = _parts(made, seed)
    if parts is None:
        return float(neighbour), float(familiar.min()) - 0.4, float(familiar.min())
    apart = replace(made, fold=parts)
    hasty = replace(plan, epochs=min(plan.epochs, _STRANGE_EPOCHS))
    _, held = _cross_fitted(apart, hasty, seed, kept, "left-out", told)
    quality, _ = quality_of(shrunk(held.deviation, held.heads, own), memory.usual)
    gain = _market(made, held, memory).gains(quality, np.broadcast_to(memory.usual, quality.shape))
    low, high = best_limits(familiar, near_other_folds(made, parts, neighbour), gain)
    return float(neighbour), low, high


def _parts(made: Material, seed: int) -> np.ndarray[Any, np.dtype[np.intp]] | None:
    """Clusters of queries; a question that lies in two is in the first. None where there are too few queries."""
    if len(made) < 20 * _STRANGE_PARTS:
        return None
    label = spherical_clusters(made.inputs.embeddings, _STRANGE_PARTS, seed)
    _, firsts, inverse = np.unique(made.data.groups, return_index=True, return_inverse=True)
    parts = np.unique(label[firsts][inverse], return_inverse=True)[1].astype(np.intp)
    return parts if parts.max() > 0 else None


def _graph(made: Material, members: list[GraphNetwork], memory: Memory, held: Held, own: float) -> Graph:
    """The folded graph: statistics of all rows, biases and intervals by what was told out of fold."""
    everything = np.arange(len(made))
    rests = Rests.of(made, everything)
    edges = rests.statistics(made, everything)
    quality, bias = quality_of(shrunk(held.deviation, held.heads, own), memory.usual)
    labels = (~np.isnan(made.score)).sum(axis=0)
    doubt = np.full(len(made.cards), half_width(quality, made.score))
    lengths, ratios = _usual_lengths(made, memory), mean_ratios(held.tokens, made.log_tokens)
    table = np.column_stack([memory.usual, lengths, labels, bias, doubt, _log_ms(made), ratios])
    return Graph(
        places=made.places,
        weights=weights_of(members),
        memory=_halved(memory, heads(made, everything)),
        prior=made.prior,
        ids=tuple(card.id for card in made.cards),
        table=table,
        edges=np.stack([edges.mass.T, edges.score.T, edges.tokens.T]).astype(np.float32).astype(np.float64),
        mix=np.zeros((0, len(made.cards))),
        shrink=shares(own),
    )


def weights_of(members: list[GraphNetwork]) -> Weights:
    """The members' weights as arrays; what skills send is worked out once."""
    with torch.no_grad():
        return Weights(
            first=_stacked([one.first.weight.T for one in members]),
            sent=_stacked([one.of_skill(one.skills) + one.first.bias for one in members]),
            edge_skill=_stacked([one.to_model.of_skill(one.skills) for one in members]),
            edge_facts=_stacked([one.to_model.of_edge.weight.T for one in members]),
            encode=_stacked([torch.cat([one.encode.weight.T, one.encode.bias[None]]) for one in members]),
            whole=_stacked([torch.cat([one.whole.weight.T, one.whole.bias[None]]) for one in members]),
            latent=_stacked([one.latent.weight.T for one in members]),
            mixing=_stacked([torch.relu(one.mixing) for one in members]),
            gap=_stacked([torch.cat([one.model_gap.weight[0], one.model_gap.bias]) for one in members]),
        )


def _stacked(tensors: list[torch.Tensor]) -> Floats:
    found: Floats = torch.stack(tensors).detach().numpy().astype(np.float32)
    return found


def _halved(memory: Memory, beside: Doubles) -> Remembered:
    """As it will be read, with the heads: large arrays in half precision."""
    named = (name for name in Remembered.__slots__ if name != "heads")
    kept = {"heads": beside.astype(np.float32), **{name: getattr(memory, name).astype(np.float32) for name in named}}
    return Remembered.from_arrays(Remembered(**kept).arrays())


def _usual_lengths(made: Material, memory: Memory) -> Doubles:
    """Mean log tokens of each model; where none is known that of all, or of a usual answer."""
    known = ~np.isnan(made.log_tokens)
    overall = float(made.log_tokens[known].mean()) if known.any() else float(np.log(200.0))
    return np.where(known.any(axis=0), memory.usual_tokens, overall)


def _log_ms(made: Material) -> Doubles:
    """Mean logarithm of milliseconds, NaN where none was observed."""
    seconds = made.data.latency_s.astype(np.float64)
    known = ~np.isnan(seconds) & (seconds > 0)
    logs = np.where(known, np.log(np.where(known, seconds, 1.0) * 1000), 0.0)
    count = known.sum(axis=0)
    return np.where(count > 0, logs.sum(axis=0) / np.maximum(count, 1), np.nan)
