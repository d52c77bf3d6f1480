"""Stores of random bytes that can be told apart."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from local_runtime.experts.layout import Key, Layout
from local_runtime.experts.pool import ExpertPool
from local_runtime.experts.store import StoreWriter

LAYOUT = Layout(layers=(1, 2, 4), experts=6, planes=(5000, 3000))
EXPERT = 8192 + 4096  # bytes of one, as stored


def plane_of(key: Key, plane: int, layout: Layout = LAYOUT) -> bytes:
    random = np.random.default_rng((*key, plane))
    return random.integers(0, 256, layout.planes[plane], dtype=np.uint8).tobytes()


def write_store(folder: Path, layout: Layout = LAYOUT) -> Path:
    with StoreWriter(folder, layout, {"origin": "test"}) as writer:
        for layer in layout.layers:
            for expert in range(layout.experts):
                key = layer, expert
                writer.write(key, [plane_of(key, plane, layout) for plane in range(len(layout.planes))])
        writer.finish()
    return folder


def is_there(pool: ExpertPool, key: Key, planes: int = 2) -> bool:
    """Whether the bytes of an expert lie where they should."""
    places = pool.address(*key)
    return all(ctypes.string_at(places[plane], LAYOUT.planes[plane]) == plane_of(key, plane) for plane in range(planes))
