"""What serving a mixture from disk would be like: followed on a text, with the runtime's own cache and disk."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from local_runtime.base import UnsupportedModel
from local_runtime.experts.plan import measured_bandwidth, plan
from local_runtime.experts.policies import Lfu, Lru, NextUse
from local_runtime.experts.store import ExpertStore
from local_runtime.experts.trace import Recorder, Routes, hit_rate, segment_hit_rate, segment_performance
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.native import NativeModel

SHARES: Final = (0.125, 0.25, 0.5, 0.75)
_SEGMENTS: Final = (4, 16, 64)
_TIMED: Final = 32
# Of what is missing, how much is read while something else is computed: what serving shows with routers asked early.
_FORESEEN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Analysis:
    """`segments`: tokens, SRP and SCH of twice the active experts.

    `budgets`: for each of SHARES, MiB, hit rates of LRU, LFU, the runtime's own rule and Belady's, milliseconds a
    token, tokens a second, and what is waited for.
    """

    layers: int
    experts: int
    active: int
    all_bytes: int
    bandwidth: float
    computing_s: float
    segments: Sequence[tuple[int, float, float]]
    budgets: Sequence[tuple[int, float, float, float, float, float, float, str]]


def analysed(path: Path, texts: Sequence[str], store: Path, tokens: int, dtype: str) -> Analysis:
    """Follow up to so many tokens; UnsupportedModel where the model has no experts or the kernels can't compute it."""
    options = LoadOptions(slots=1, expert_bytes=1 << 46, expert_folder=store, expert_dtype=dtype, record_routes=True)
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
    taken = [_timed(model, pages, ids, at) for at in range(len(ids) - _TIMED, len(ids))]
    found = ExpertStore.open(store)
    bandwidth, computing_s = measured_bandwidth(found), float(np.median(taken))
    routes, moe = recorder.routes()[: len(ids)], model.spec.moe
    segments = [
        (
            length,
            segment_performance(routes, moe.experts, length),
            segment_hit_rate(routes, moe.experts, length, min(2 * moe.active, moe.experts)),
        )
        for length in _SEGMENTS
        if length <= len(routes)
    ]
    budgets = [_budget(share, routes, found, moe.active, bandwidth, computing_s) for share in SHARES]
    layout = found.layout
    return Analysis(len(sparse), moe.experts, moe.active, layout.all_bytes, bandwidth, computing_s, segments, budgets)


def _timed(model: NativeModel, pages: array[int], ids: Sequence[int], at: int) -> float:
    began = perf_counter()
    model.forward([Segment(pages, at, ids[at : at + 1], 1)])
    return perf_counter() - began


def _budget(
    share: float, routes: Routes, store: ExpertStore, active: int, bandwidth: float, computing_s: float
) -> tuple[int, float, float, float, float, float, float, str]:
    layout = store.layout
    budget = int(share * layout.all_bytes)
    room = budget // layout.expert_bytes
    rates = [hit_rate(routes, layout.experts, room, policy) for policy in (Lru, Lfu, NextUse, None)]
    told = plan(layout, budget, active, rates[2], bandwidth, computing_s, _FORESEEN)
    return (budget >> 20, rates[0], rates[1], rates[2], rates[3], told.seconds * 1e3, 1 / told.seconds, told.bound)
