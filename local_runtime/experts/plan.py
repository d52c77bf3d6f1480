"""What fits, and how fast it will be, before a model bigger than memory is loaded (after MoE-Lens, arXiv:2504.09345).

A token takes as long as computing or as reading what is missing, whichever is longer, and the part of the shorter one
that can't go on beside the other: what is foreseen is read while layers are computed, what is not is waited for.
"""

from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from local_runtime.experts.layout import Layout
from local_runtime.experts.store import ExpertStore

_TRIED = 64
_READERS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """`room` experts fit in all layers together; a token reads `read_bytes` and takes `seconds`."""

    room: int
    hit_rate: float
    read_bytes: float
    reading_s: float
    computing_s: float
    seconds: float

    @property
    def bound(self) -> str:
        """What a token waits for: the disk or the processor."""
        return "disk" if self.reading_s > self.computing_s else "processor"


def plan(
    layout: Layout, budget: int, active: int, hit_rate: float, bandwidth: float, computing_s: float, foreseen: float
) -> Plan:
    """`hit_rate` of a cache of that room without foresight, `bandwidth` in bytes a second, `computing_s` a token with
    all experts there; `foreseen`: of what is missing, the share that is read while something else is computed."""
    room = min(budget // layout.expert_bytes, layout.experts * len(layout.layers))
    read_bytes = (1 - hit_rate) * active * len(layout.layers) * layout.expert_bytes
    reading_s = read_bytes / bandwidth
    beside = min(foreseen * reading_s, computing_s)
    return Plan(room, hit_rate, read_bytes, reading_s, computing_s, computing_s + reading_s - beside)


def measured_bandwidth(store: ExpertStore, seed: int = 0) -> float:
    """Bytes a second of reading experts at random, as serving does it."""
    layout = store.layout
    keys = [(layer, expert) for layer in layout.layers for expert in range(layout.experts)]
    tried = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))[:_TRIED]]
    rooms = [memoryview(mmap.mmap(-1, layout.expert_bytes)) for _ in tried]
    for room in rooms:
        room[:] = bytes(layout.expert_bytes)  # so that memory is there and only reading is measured
    with ThreadPoolExecutor(_READERS) as readers:
        list(readers.map(store.read, tried, rooms))  # sums are checked at the first reading
        began = perf_counter()
        list(readers.map(store.read, tried, rooms))
        taken = perf_counter() - began
    return len(tried) * layout.expert_bytes / taken
