"""What serving a mixture from disk would be like: followed on a text, with the runtime's own cache and disk.

Memory that this machine has is tried, so that the answer holds for it; what it has not is planned (experts.plan).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from local_runtime.base import UnsupportedModel
from local_runtime.experts.errors import BudgetTooSmall
from local_runtime.experts.plan import measured_bandwidth, plan
from local_runtime.experts.policies import Lfu, Lru, NextUse
from local_runtime.experts.pool import ExpertPool
from local_runtime.experts.store import ExpertStore
from local_runtime.experts.trace import Recorder, Routes, hit_rate, segment_hit_rate, segment_performance
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.native import NativeModel
from local_runtime.models.offload import Offload

SHARES: Final = (0.125, 0.25, 0.5, 0.75)
_SEGMENTS: Final = (4, 16, 64)
_TIMED: Final = 48
# Tokens before those that are timed, one at a time, so that the cache is as it will be.
_WARM: Final = 48
# Of memory that is free, what a trial may take.
_OURS: Final = 0.7
# Of what is missing, how much is read while something else is computed: what serving shows with routers asked early.
_FORESEEN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Budget:
    """Room for experts and what it brings. `tried`: tokens were computed with it, else their time is planned. Rates: of
    what is wanted, what caches by LRU, LFU, the runtime's rule and Belady's would hold, nothing fetched early."""

    mib: int
    lru: float
    lfu: float
    own: float
    belady: float
    ms: float
    tokens_per_s: float
    waits_for: str
    tried: bool


@dataclass(frozen=True, slots=True)
class Analysis:
    """`segments`: tokens, SRP and SCH of twice the active experts. `budgets`: for each of SHARES of all experts."""

    layers: int
    experts: int
    active: int
    all_bytes: int
    bandwidth: float
    computing_s: float
    segments: Sequence[tuple[int, float, float]]
    budgets: Sequence[Budget]


def analysed(path: Path, texts: Sequence[str], store: Path, tokens: int, dtype: str) -> Analysis:
    """Follow up to so many tokens; UnsupportedModel where the model has no experts or the kernels can't compute it."""
    available = int(_OURS * free_bytes())
    options = LoadOptions(slots=1, expert_bytes=available, expert_folder=store, expert_dtype=dtype, record_routes=True)
    loaded = load_model(path, options)
    model = loaded.model
    if not isinstance(model, NativeModel) or model.experts is None or model.spec.moe is None:
        raise UnsupportedModel(f"{path.name} has no experts that the native kernels compute")
    ids = loaded.tokenizer.encode("\n\n".join(texts))[: min(tokens, loaded.context_tokens)]
    if len(ids) < 2 * _TIMED:
        raise ValueError(f"the text has {len(ids)} tokens: at least {2 * _TIMED} are needed")
    sparse = [i for i, layer in enumerate(model.spec.layers) if layer.sparse]
    model.experts.recorder = recorder = Recorder(sparse)
    pages = array("i", range(-(-len(ids) // PAGE)))
    model.forward([Segment(pages, 0, ids)])
    model.experts.recorder = None
    found, routes, moe = ExpertStore.open(store), recorder.routes()[: len(ids)], model.spec.moe
    trial = _Trial(model, model.experts, pages, ids, found, available)
    segments = [
        (
            length,
            segment_performance(routes, moe.experts, length),
            segment_hit_rate(routes, moe.experts, length, min(2 * moe.active, moe.experts)),
        )
        for length in _SEGMENTS
        if length <= len(routes)
    ]
    bandwidth, computing_s = measured_bandwidth(found), trial.computing_s()
    budgets = [_budget(share, routes, trial, bandwidth, computing_s) for share in SHARES]
    all_bytes = found.layout.all_bytes
    return Analysis(len(sparse), moe.experts, moe.active, all_bytes, bandwidth, computing_s, segments, budgets)


def free_bytes() -> int:
    """Memory that the system could give without swapping; where it doesn't say, four gibibytes."""
    try:
        said = Path("/proc/meminfo").read_text("utf-8")
    except OSError:
        return 4 << 30
    return next((int(line.split()[1]) << 10 for line in said.splitlines() if line.startswith("MemAvailable:")), 4 << 30)


class _Trial:
    """The last tokens of a text that a model has read, one at a time, with any memory for experts."""

    def __init__(
        self, model: NativeModel, experts: Offload, pages: array[int], ids: Sequence[int], store: ExpertStore, most: int
    ) -> None:
        self._model = model
        self._experts = experts
        self._pages = pages
        self._ids = ids
        self.store = store
        self._most = most
        self.active = model.spec.moe.active if model.spec.moe else 0

    def computing_s(self) -> float:
        """Seconds of a token whose experts are all there: the same one again and again."""
        at = len(self._ids) - 1
        return float(np.median([self._token(at) for _ in range(_TIMED)][1:]))

    def seconds(self, budget: int) -> tuple[float, float] | None:
        """Of a token, the mean, and of them those that it waits for the disk; None where this machine has not that much
        memory, or it holds too few experts."""
        if budget > self._most:
            return None
        try:
            pool = ExpertPool(self.store, budget, self.active)
        except BudgetTooSmall:
            return None
        before, self._experts.pool = self._experts.pool, pool
        try:
            first = len(self._ids) - _TIMED
            for at in range(max(0, first - _WARM), first):
                self._token(at)
            waited = pool.stats.waited_s
            taken = float(np.mean([self._token(at) for at in range(first, len(self._ids))]))
            return taken, (pool.stats.waited_s - waited) / _TIMED
        finally:
            self._experts.pool = before
            pool.close()

    def _token(self, at: int) -> float:
        began = perf_counter()
        self._model.forward([Segment(self._pages, at, self._ids[at : at + 1], 1)])
        return perf_counter() - began


def _budget(share: float, routes: Routes, trial: _Trial, bandwidth: float, computing_s: float) -> Budget:
    layout = trial.store.layout
    budget = int(share * layout.all_bytes)
    room = budget // layout.expert_bytes
    lru, lfu, own, belady = (hit_rate(routes, layout.experts, room, policy) for policy in (Lru, Lfu, NextUse, None))
    tried = trial.seconds(budget)
    if tried is None:
        told = plan(layout, budget, trial.active, own, bandwidth, computing_s, _FORESEEN)
        seconds, waits_for = told.seconds, told.bound
    else:
        seconds, waits_for = tried[0], "disk" if tried[1] > tried[0] / 2 else "processor"
    mib = budget >> 20
    return Budget(mib, lru, lfu, own, belady, seconds * 1e3, 1 / seconds, waits_for, tried is not None)
