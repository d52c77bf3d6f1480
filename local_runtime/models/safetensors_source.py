"""Tensors of a Hugging Face folder: one model.safetensors, or another, or an index over several. Knows no model."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from local_runtime.base import BadWeights, WeightsNotFound

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class SafetensorsSource:
    """A TensorSource over a folder; the library checks that headers and byte ranges fit the files."""

    def __init__(self, folder: Path, single: str = SINGLE) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._shards: dict[str, Any] = {}
        try:
            for file in _shard_files(folder, single):
                shard = self._open.enter_context(safe_open(folder / file, framework="pt"))
                self._shards.update(dict.fromkeys(shard.keys(), shard))
        except (SafetensorError, OSError, UnicodeError) as error:
            self._open.close()
            raise BadWeights(f"{folder.name}: {error}") from error

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._shards.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape as stored."""
        return tuple(self._shards[name].get_slice(name).get_shape())

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The tensor in memory of its own."""
        tensor: torch.Tensor = self._shards[name].get_tensor(name)
        if not tensor.is_floating_point():
            raise BadWeights(f"{self.folder.name}: tensor {name!r} holds {tensor.dtype}, not floating-point numbers")
        return tensor.to(dtype, copy=True)

    def groups(self, name: str) -> None:
        """See TensorSource: there are none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shards.clear()
        self._open.close()


def _shard_files(folder: Path, single: str) -> list[str]:
    if (folder / single).is_file():
        return [single]
    if not (folder / INDEX).is_file():
        raise WeightsNotFound(f"{folder}: neither {single} nor {INDEX} is there")
    try:
        files = sorted(set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadWeights(f"{folder.name}: {INDEX} is not an index of weights") from error
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:
            raise BadWeights(f"{folder.name}: {INDEX} points outside its folder")
        if not (folder / file).is_file():
            raise BadWeights(f"{folder.name}: {file} is missing")
    return files
