"""Brings the experts of a model into a store, once; later runs find them there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from local_runtime.base import BadWeights
from local_runtime.experts.layout import Layout
from local_runtime.experts.store import INDEX, ExpertStore, StoreWriter
from local_runtime.kernels import abi
from local_runtime.kernels.library import Kernels
from local_runtime.models.names import TensorNames
from local_runtime.models.native_experts import ExpertPacker, ExpertShape
from local_runtime.models.numbers import NumberSource
from local_runtime.models.plans import Shape
from local_runtime.models.spec import ModelSpec

_SHAPE: Final = ("rows", "cols", "form")


def packed_experts(
    kernels: Kernels, spec: ModelSpec, names: TensorNames, source: NumberSource, form: int, folder: Path, origin: str
) -> tuple[ExpertStore, ExpertShape]:
    """The store in `folder`, written if there is none of this `origin` (see `origin_of`) and form.

    StoreFull where the disk has no room; BadWeights where a store is damaged.
    """
    packer = ExpertPacker(kernels, spec, names, source, form)
    shape = packer.shape(nested=form == abi.Q4)
    meta = {"origin": origin, "nested": shape.nested, "gate_up": _told(shape.gate_up), "down": _told(shape.down)}
    if (folder / INDEX).is_file():
        store = ExpertStore.open(folder)
        if dict(store.meta) == meta:
            return store, shape
    elif folder.exists() and any(folder.iterdir()):
        raise BadWeights(f"{folder}: holds something else; name another folder for experts")
    count = spec.moe.experts if spec.moe else 0
    with StoreWriter(folder, Layout(packer.layers, count, shape.planes), meta) as writer:
        for key, planes in packer.planes(shape):
            writer.write(key, [plane.data for plane in planes])
        writer.finish()
    return ExpertStore.open(folder), shape


def origin_of(path: Path) -> str:
    """Tells weights from others: names, sizes and times of the files, hashed."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    told = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _told(shape: Shape) -> Mapping[str, Any]:
    return dict(zip(_SHAPE, (shape.rows, shape.cols, shape.form), strict=True))
