"""Which experts a text wants, and what caches of any size would make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from local_runtime.experts.cache import ExpertCache
from local_runtime.experts.layout import Layout
from local_runtime.experts.policies import Belady, Policy

Routes = npt.NDArray[np.int32]  # [tokens, layers, active]; -1 where a token wants fewer


class Recorder:
    """Collects routes, layer after layer, of steps of any number of rows of one sequence."""

    def __init__(self, layers: Sequence[int]) -> None:
        self._steps: dict[int, list[Routes]] = {layer: [] for layer in layers}

    def saw(self, layer: int, chosen: Routes) -> None:
        """The routes of a step through a layer: [rows, active]."""
        self._steps[layer].append(chosen.copy())

    def routes(self) -> Routes:
        """All of them."""
        return np.stack([np.concatenate(steps) for steps in self._steps.values()], axis=1)


def segment_performance(routes: Routes, experts: int, length: int) -> float:
    """SRP: how well the best fixed set of experts stands for segments of so many tokens, the mean of F1 over segments
    and layers (arXiv:2505.16056)."""
    active = routes.shape[2]
    best = []
    for uses in _uses(routes, experts, length):
        ranked = -np.sort(-uses, axis=1)
        sizes = np.arange(1, experts + 1)
        best.append((2 * ranked.cumsum(axis=1) / (sizes + active)).max(axis=1).mean())
    return float(np.mean(best))


def segment_hit_rate(routes: Routes, experts: int, length: int, room: int) -> float:
    """SCH: of all that is wanted, what a cache of `room` experts a layer holds that is chosen best for each segment."""
    active = routes.shape[2]
    found = [-np.sort(-uses, axis=1)[:, :room].sum(axis=1).mean() / active for uses in _uses(routes, experts, length)]
    return float(np.mean(found))


def hit_rate(routes: Routes, experts: int, room: int, policy: Callable[[int, int], Policy] | None = None) -> float:
    """Of all that is wanted, what a cache of `room` experts in all layers together holds; None: Belady's, the bound."""
    tokens, layers, _ = routes.shape
    rule = policy(layers, experts) if policy else Belady(_coming(routes, experts))
    cache = ExpertCache(Layout(tuple(range(layers)), experts, (1,)), room, rule)
    wanted = hits = 0
    for token in range(tokens):
        for layer in range(layers):
            used = routes[token, layer]
            used = used[used >= 0].astype(np.intp)
            cache.visited(layer, used)
            keys = [(layer, int(expert)) for expert in used]
            missing = [key for key in keys if not cache.ready(key)]
            wanted, hits = wanted + len(keys), hits + len(keys) - len(missing)
            for key in keys:
                cache.pin(key)
            for key in missing:
                if cache.reserve(key, at_any_cost=True) is not None:
                    cache.arrived(key)
            for key in keys:
                cache.unpin(key)
    return hits / wanted


def _uses(routes: Routes, experts: int, length: int) -> list[npt.NDArray[np.float64]]:
    """For each whole segment how large a share of its tokens wants each expert: [layers, experts]."""
    found = []
    for first in range(0, len(routes) - length + 1, length):
        some = routes[first : first + length]
        counts = [np.bincount(layer[layer >= 0], minlength=experts) for layer in some.transpose(1, 0, 2)]
        found.append(np.stack(counts) / length)
    return found


def _coming(routes: Routes, experts: int) -> list[list[list[int]]]:
    """When each expert of each layer is wanted, counted in visits."""
    tokens, layers, _ = routes.shape
    uses: list[list[list[int]]] = [[[] for _ in range(experts)] for _ in range(layers)]
    for token in range(tokens):
        for layer in range(layers):
            for expert in routes[token, layer]:
                if expert >= 0:
                    uses[layer][expert].append(token * layers + layer)
    return uses
